// Package schema finds Lexicons that their authors publish in the network
// (https://atproto.com/specs/lexicon#lexicon-publication-and-resolution): the permission
// sets that scopes include, and the schemas of records that this program does not know.
//
// Invariants:
//   - A document is believed only if the repository of the NSID's authority proves it by
//     a signed commit.
//   - Of a permission set that was found once, nobody waits for the network again: it is
//     looked at in the background, and the last known one goes on if that fails.
//   - A writer never waits for the schema of its record.
//   - What is kept is bounded: sets that nobody was granted are few, the rest is as much
//     as living sessions use.
package schema
