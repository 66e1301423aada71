// Package auth authenticates callers. There is one Go type for each kind of caller, and
// a handler's parameter has the type that it demands: an endpoint behind the wrong
// credential does not compile. The package also owns the form of session tokens
// (claims, keyring). It does not know what a session is and asks the Sessions
// interface.
//
// Invariants:
//   - The signature is checked before any claim, and no unsigned part of a token is
//     trusted.
//   - Secrets are compared in constant time and never printed.
//   - If a dependency fails the answer is 503, never 400 or 401, on which clients
//     drop their session.
package auth
