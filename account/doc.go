// Package account owns who has an account here: DID, handle, e-mail, password,
// app passwords, invite codes, hosting status, and the trail of what happened
// to the account's sign-ins.
//
// Invariants, kept by the Store:
//   - A DID, a handle and an e-mail address belong to at most one account; a
//     reserved (pending) account holds all three.
//   - What ends sessions (a new password, a revoked app password, a takedown, a
//     deletion) ends them in the same transaction.
//   - The trail holds at most TrailLimit entries an account.
package account
