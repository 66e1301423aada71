// Package pdstest runs whole servers in tests: Start in the test's own process,
// Launch as the real binary. Both serve development on a free loopback port
// from a data directory that is gone after the test, with the embedded PLC
// directory unless the settings name another.
//
// Invariant: when a test ends, its server is stopped in order and everything in
// its data directory is verified (Verify); a fault fails the test.
package pdstest
