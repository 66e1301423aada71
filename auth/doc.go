// Package auth proves who is calling. There is one Go type for each kind of
// caller, and a handler takes the type that it demands: an endpoint behind the
// wrong credential does not compile. The package also owns the session tokens'
// form (claims, keyring), but not what a session is: that it asks for through
// the Sessions interface.
//
// Invariants:
//   - No claim is looked at before the signature, and nothing of a token is
//     trusted that was not signed.
//   - Secrets are compared in constant time and never printed.
//   - A dependency that fails answers 503, never 400 or 401: clients throw a
//     session away on those.
package auth
