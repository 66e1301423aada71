// Package session owns sign-ins: creating, refreshing, listing and ending them.
//
// A session is one sign-in on one device: one row, however often it is
// refreshed. Its refresh tokens are numbered 0, 1, 2, …; the newest number is
// the head. docs/sessions.md explains the model, rotate.go holds its table.
//
// Invariants:
//   - A client that follows the rules is never signed out: any number of
//     concurrent refreshes with one token give one successor, a lost answer can
//     be asked for again, and the tabs of a device converge on the head.
//   - What was answered is on disk.
//   - An ended session stays ended: its row is gone, and no token can bring it
//     back.
//   - A refresh waits for nothing outside of this server.
package session
