// Package mst is the Merkle Search Tree of a repository
// (https://atproto.com/specs/repository#mst-structure): a map from keys
// (collection/rkey) to CIDs whose shape, and so whose root CID, follows from its
// content alone. It is pure.
//
// A Tree loads only the nodes on the paths that it touches, and Flush returns only
// the nodes that changed. Builder makes a tree of any size from sorted keys with the
// memory of one path; Walker goes through one in order, with the same.
//
// Invariants:
//   - After Flush the tree is canonical: the same keys and values have the same
//     root, whatever was done in between.
//   - Stack and memory are bounded by the layers of the tree, at most MaxLayer,
//     never by what a foreign node claims: each child lies exactly one layer
//     below its parent, and keys ascend over the whole walk, so that neither a
//     cycle nor a subtree that is linked twice can be followed.
package mst
