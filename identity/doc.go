// Package identity owns handles and DIDs: it answers for the handles of this
// server, asks and tells the PLC directory, and finds in the background whether
// accounts' identities still are what we think. Its Resolver asks the network for
// the identities of others.
//
// Invariant: a sign-in, or a refresh, never waits for the network because of an
// identity. It reads what the background check has stored.
package identity
