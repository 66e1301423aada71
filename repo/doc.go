// Package repo owns an account's repository: its signed commits
// (https://atproto.com/specs/repository) over the tree of package mst. It
// writes and reads records, proves them, exports whole repositories as CAR
// files, imports foreign ones, and re-signs or removes repositories in the
// background.
//
// Invariants:
//   - Revisions of a repository only ascend, whatever the clock does.
//   - A commit, its records, its references to blobs and its event become
//     durable together or not at all.
//   - Writers of one account run one after the other, under a lock of the account.
//   - An import replaces a repository as a whole, or leaves it as it was.
package repo
