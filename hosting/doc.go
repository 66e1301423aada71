// Package hosting owns the life of an account on this server: creating it, moving
// it in and out, its handle, its keys and the operations that change its DID
// document, deactivating, activating and deleting it, and what the server says
// about itself to people who want to sign up or move in.
//
// Invariant: an account exists here if and only if its DID is registered. It is
// first reserved, with everything that is needed to go on; then its operation is
// submitted; then it is activated. If that is interrupted, Resume finishes or
// undoes it.
package hosting
