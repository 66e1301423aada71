// Package reference reads the data directory of a reference PDS (@atproto/pds, 0.4 and 0.5:
// WAL databases in SQLite, files for keys and blobs), as package takeover asks for it.
//
// Invariant: nothing in the source is ever written, made, renamed or locked. A database is
// opened as immutable if its log is empty; otherwise a copy of both is opened, since SQLite
// makes files beside a database with a log even if it only reads it.
package reference
