// Package gate admits callers to bounded resources: Keyed is a lock for each
// key, Places are so many at once and so many for a key, Flights are work that callers
// share, Budget is an amount of bytes, Regulars are the keys that came here before.
//
// Invariants:
//   - The zero value of each is ready. Bounds are arguments of each call, so
//     that they are written where they are used.
//   - Nothing is kept of a key that holds nothing and waits for nothing. Regulars
//     keep a bounded number of keys.
//   - A caller that stops waiting leaves nothing behind.
package gate
