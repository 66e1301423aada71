// Package signin proves a person: it is the one place that checks a password.
//
// Every door goes through Prove: createSession, deleteAccount, and later the page
// on which a person lets an OAuth client in. That page will pass on the identifier,
// password and code of its form, and open a row of package session with what it gets.
//
// Invariants:
//   - A door adds no guesses: all of them count in one set of buckets, by account and
//     by client network. A limit stops the network that reached it, not the owner
//     elsewhere.
//   - An identifier that belongs to nobody costs the same time as a wrong password,
//     for every purpose whose callers do not know that the account exists.
//   - A point is taken before the password is checked, so that many attempts at once
//     pass no limit together.
package signin
