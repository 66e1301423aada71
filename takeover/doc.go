// Package takeover takes over the data directory of another PDS, the reference: its accounts
// with their passwords and sessions, repositories as they are signed, blobs, and the event
// log with its numbers, so that neither people nor relays notice the switch.
//
// A take-over has two passes. The first (Prepare) may run beside the old server: repositories
// and blobs. The second (Finish) runs once that has stopped: what changed meanwhile, and all
// that is small. Either may be killed at any moment and repeated.
//
// Invariants:
//   - The source is only read.
//   - No repository is stored that is not proven: each record and the commit have their
//     hashes, the account's key signed the commit, and the records make the tree that it
//     names.
//   - Until the second pass has ended without a fault, no server starts on the target.
package takeover
