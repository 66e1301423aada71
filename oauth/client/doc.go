// Package client owns who asks for access: what a client_id may be, the document that it
// leads to, where answers may be sent, and how a confidential client proves itself.
//
// A client is not registered. Its client_id is the URL of a document on its own host, or
// http://localhost for an app under development. The document is fetched from a host that
// a stranger names (internal/safehttp), checked whole, and kept.
//
// Invariants:
//   - A Client was checked: whatever reads one needs no rule of this package again.
//   - Nothing is refused because of what an old document does not say: With and Authenticate
//     look a second time first.
//   - A host that is down refuses nobody that it has introduced before: the last document
//     counts for a while, and then the answer is ErrUnavailable, never a refusal.
//   - An assertion is used up last, by Proof.Record, after everything else was found right.
//   - At most one fetch of a client is on its way, and a bounded number in all.
//
// Which assertions were used is remembered in memory only. One alone opens nothing: a
// session's tokens demand a fresh proof of its DPoP key as well, and a request the owner's
// consent.
package client
