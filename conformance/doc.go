// Package conformance asks any PDS, as a client from outside, whether its sessions keep the
// contract of docs/sessions.md, and its authorization server the guarantees of docs/oauth.md
// that need no browser.
//
// Each check has a name, what it expects, why the specification or clients that people use
// need it, and the calls that it makes at most. A server fails a check if a client breaks on
// it, or the specification forbids it; it differs if it may do as it does.
//
// Invariants: Run makes no more calls than MostCalls, one host and no other gets them, and
// they change nothing of the account but the sessions that Run itself opens. It signs out of
// each of them at the end, also if it is interrupted. The password is in createSession's
// input and nowhere else.
package conformance
