// Package scope is the language in which OAuth clients ask for permissions, and
// accounts grant them (https://atproto.com/specs/permission): it reads scopes, compares
// them by their meaning, decides what they allow, and replaces permission sets, which
// Lexicons publish, by what they hold. It is pure.
//
// Invariants:
//   - A Set never changes, so it needs no lock.
//   - What does not parse is dropped and grants nothing; it never fails the rest.
//   - Parse of a Set's String is the same Set.
//   - Expanding a permission set grants nothing outside of the set's own namespace.
//   - Asking a Set allocates nothing: each call of an app asks.
package scope
