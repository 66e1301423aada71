// Package sqlite keeps everything in one SQLite file: it implements the Store
// of each domain, and is the only place (with its sub-packages) where SQL is.
//
// Invariants:
//   - Writes go through one group-commit writer: WAL, synchronous=FULL, so what
//     a method returned is on disk.
//   - Reads go to a pool of read-only connections, or to a cache that the writer
//     updates after each commit, in commit order, before it takes the next one. A cache is filled
//     only by a read that began after the last change of the same key.
//   - One process serves a database, so a cache is never older than the last committed
//     write: more than the contracts ask for, which several servers must be able to hold.
//   - Checkpoints run on a connection of their own, so that they do not delay
//     writes.
package sqlite
