// Package lexicon says whether a record is what its Lexicon
// (https://atproto.com/specs/lexicon) says it is, what blobs it refers to, and
// which keys records of a collection have. It knows the records of com.atproto,
// app.bsky and chat.bsky; a collection that it does not know is open to every
// record. It is pure, and made for foreign records.
//
// Invariants:
//   - A catalogue never changes, so it needs no lock.
//   - No record makes it panic, or use more stack than dagcbor.MaxDepth needs.
//   - A fault names the path in the record by names of the schema and by indexes
//     alone: it repeats nothing that a client sent.
package lexicon

//go:generate go run ./internal/generate
