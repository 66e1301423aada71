// Package system holds what differs between the operating systems that Nestbox
// runs on, Linux and macOS: one small file per subject, and one per system where
// the code cannot be the same.
//
// What is durable needs no code here: on macOS os.File.Sync asks the disk to
// empty its cache (F_FULLFSYNC), and store/sqlite makes SQLite do the same.
package system
