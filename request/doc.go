// Package request owns what belongs to any HTTP request, whatever it asks for:
// the client and its network, the account that the log line names, the headers
// of the answer, the log line itself, recovery from a panic, and the counting
// against rate limits. It knows no protocol, no page and no kind of credential.
//
// Invariants:
//   - Every request that a Front serves writes exactly one log line. It holds no
//     query, no header and no part of a body.
//   - A panic ends its request alone.
//   - X-Forwarded-For is believed only if a trusted proxy sent it.
package request
