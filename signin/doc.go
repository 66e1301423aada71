// Package signin proves a person: it is the one place that checks a password or a second
// factor, and the one that keeps second factors (Store).
//
// Every door goes through Prove: createSession, deleteAccount and the pages. A page has a
// step of its own for the second factor: Prove returns FactorNeeded, whose Claim travels
// sealed in the page, and Continue takes it with a code or a passkey. A passkey alone proves
// a person too (ProvePasskey). StepUp proves a person again who is signed in on a page, for
// what the table of Standing.Allows wants.
//
// Invariants:
//   - A door adds no guesses: all of them count in one set of buckets, by account and
//     by client network. A limit stops the network that reached it, not the owner
//     elsewhere. Only a second factor that was guessed too often pauses for everybody,
//     since who guesses it knows the password.
//   - An identifier that belongs to nobody costs the same time as a wrong password,
//     for every purpose whose callers do not know that the account exists.
//   - A point is taken before the password is checked, so that many attempts at once
//     pass no limit together.
//   - A code, or a passkey's answer, proves once. The page that sent it may send it again
//     for account.RepeatFor: its answer may have been lost.
//   - Each change of factors is on the trail, and mailed, in its transaction.
package signin
