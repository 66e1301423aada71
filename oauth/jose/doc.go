// Package jose owns the form of signed JWTs and public keys that strangers send: compact
// JWS (RFC 7515), JWK (RFC 7517), the algorithms of RFC 7518 and ES256K (RFC 8812), and
// thumbprints (RFC 7638). It knows no claim.
//
// Invariants: a Key is public and on its curve; two Keys have one thumbprint only if they
// are one key; what Parse returns is not verified before VerifiedBy reports true.
package jose
