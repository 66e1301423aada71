// Package dpop owns proofs of possession (RFC 9449): one check for the authorization
// server and the resource server, the nonces that they share, and the memory of proofs
// that were used.
//
// A nonce stands for a window, a minute of the server's clock, and any number of requests
// may use it while it lives. It is the only clock: a proof's iat is not compared.
//
// Invariants:
//   - No proof is accepted twice. What was used is remembered as long as its nonce lives; a
//     nonce dies before its memory is dropped, at the bound, when the clock goes back, and
//     over a stop of any kind.
//   - A nonce that is refused is never the one that is given out: clients repeat a request
//     only with another.
//   - Only Nonces has the secret, and nothing but its hashes leaves it.
package dpop
