// Package identity owns handles and DIDs: it answers for the handles of this
// server, asks and tells the PLC directory, and finds in the background whether
// accounts' identities still are what we think.
//
// Invariant: no request waits for the network because of an identity. Requests
// read what the background check has stored.
package identity
