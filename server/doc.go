// Package server is the composition: it builds everything from the
// configuration, runs it, and stops it in order. routes.go has every endpoint
// on one page.
//
// Stop order: no new work (listeners close), running requests finish within
// stopTimeout, background workers end, the store closes with its last writes, the
// data directory is released.
package server
