// Package proxy passes calls of accounts on to other services, with a token that the
// account's signing key signs, and makes such tokens for clients
// (https://atproto.com/specs/xrpc#service-proxying). What the services have not seen
// of an account yet, package readafterwrite adds to their answers.
//
// A call goes through these files, in this order: xrpc.go (the checks) with methods.go (which
// session may use which method), target.go (where to), request.go (what goes up), room.go and
// breaker.go (whether now), token.go, upstream.go (the exchange), response.go and refusal.go
// (what comes back), munge.go (what is changed on the way). Calls with a way of their own
// have a file xrpc_*.go each; service.go puts all together.
//
// Invariants:
//   - A service gets the headers of an allow-list, and never a cookie, an address or a
//     session token of the client.
//   - An answer that the client can take for whole is whole.
//   - A service that is slow, dead or hostile costs its own callers time, and nobody else.
//   - A host that a client names is reached by package safehttp alone.
package proxy
