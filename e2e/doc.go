// Package e2e holds the end-to-end tests: real clients against the real binary.
//
// The binary is the one that NESTBOX_BIN names (`make test` builds it), else one
// built for the tests. JavaScript clients come from npm, pinned by
// package-lock.json; scenario.mjs is what a person does with one, the same for
// each of them, and client-*.mjs is what differs. Some of these packages ask for
// Node 22; the parts that are used here run on Node 20, which the machines have.
//
// The folder network is the rest of the network, for `make test-network`: the real
// AppView, the real moderation service and the Node 22 that they need, pinned by a
// package-lock.json of their own. network-*.mjs are what people do in it.
//
// Invariant: every server that a test starts is stopped by it, and what it
// leaves on disk is verified.
package e2e
