// Package repo owns an account's repository: its signed commits
// (https://atproto.com/specs/repository) over the tree of package mst.
//
// Invariant: revisions of a repository only ascend, whatever the clock does.
package repo
