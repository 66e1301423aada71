// Package xrpc serves XRPC over HTTP (https://atproto.com/specs/xrpc): it
// routes by NSID, checks the method, decodes parameters and bodies, encodes
// answers and errors, and sets the headers that every answer carries. It knows
// no domain and no kind of credential.
//
// Invariants:
//   - Every answer below /xrpc/ is JSON, empty, or what a Stream wrote itself;
//     every error has the shape {"error","message"} and exactly the Content-Type
//     application/json, which one SDK compares byte for byte.
//   - A handler runs only after its caller was authenticated, its parameters and its
//     body were decoded, and no limit was exceeded.
//   - An unmapped error is a 500 with a fixed message; its text goes to the log,
//     never to the client.
package xrpc
