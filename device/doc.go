// Package device owns the browsers that people have signed in on: what a browser's cookie
// proves, which accounts are signed in there, by what and how long, and what ends it.
//
// A browser has a row from its first sign-in on; a visitor who only looks has none. Its
// cookie is a number and a 256-bit secret, of which the store keeps a hash. The secret
// changes daily, at each sign-in and at each step-up: see turn.
//
// Invariants:
//   - The old secret works until the new one has come, so that a lost answer, or a second
//     tab, signs nobody out. What was proven since the old secret was sent, it does not get.
//   - A sign-in is only stored while the credentials that were checked still hold, in the
//     same transaction.
//   - What ends the sign-ins of an account, or the trust in its browsers, ends them in the
//     transaction of the change: see EndingOf.
//   - An account is signed in on at most MaxBrowsers browsers, a browser has at most
//     MaxAccounts accounts.
package device
