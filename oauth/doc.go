// Package oauth is the authorization server: what becomes of an OAuth client's request
// until it has tokens, and how it keeps them. docs/oauth.md tells authors of clients.
//
// A client pushes a request (PAR); its person answers it on a page, which package web
// shows and Flow drives; the client exchanges the code for the tokens of a session, and
// refreshes them. The session is a row of package session, with its companion: one table
// of rotation, and one way for everything that ends sessions.
//
// Invariants:
//   - Nothing is consumed before everything was found right: a request of a client that
//     is refused, or told to fetch a nonce, may be repeated.
//   - "invalid_grant", on which clients drop a session, is the answer to a grant that is
//     wrong or over, and never to a fault of ours or of the client's host: that is a 503.
//   - The first decision of a person stands. A code is not stored, but computed from the
//     request, so the same decision can be answered again.
//   - A GET changes nothing that matters.
//   - No HTML and no database: pages are package web's, rows a Store's.
package oauth
