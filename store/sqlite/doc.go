// Package sqlite keeps everything in one SQLite file: it implements the Store
// of each domain, and is the only place (with its sub-packages) where SQL is.
//
// Invariants:
//   - Writes go through one group-commit writer: WAL, synchronous=FULL, so what
//     a method returned is on disk.
//   - Reads go to a pool of read-only connections, or to a cache that the writer
//     updates after each commit, in commit order, before it takes the next one. A cache is filled
//     only by a read that began after the last change of the same key.
//   - Checkpoints run on a connection of their own, off the way of writes.
package sqlite
