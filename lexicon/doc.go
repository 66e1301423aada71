// Package lexicon checks records against their Lexicon
// (https://atproto.com/specs/lexicon), finds the blobs that they refer to, and knows
// which keys records of a collection have. It knows the records of com.atproto,
// app.bsky and chat.bsky; in a collection that it does not know every record is
// valid. It is pure, and made for foreign records.
//
// Invariants:
//   - A catalogue never changes, so it needs no lock.
//   - No record makes it panic, or use more stack than dagcbor.MaxDepth needs.
//   - A fault names the path in the record by names of the schema and by indexes
//     alone: it repeats nothing that a client sent.
package lexicon

//go:generate go run ./internal/generate
