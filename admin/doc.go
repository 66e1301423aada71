// Package admin owns what the operator and moderators do: view accounts, take
// them down, set passwords, end sessions, rotate keys. The endpoints of
// com.atproto.admin, the command line and the admin page act through the same
// Service, so that no change bypasses the running server, and each is in the audit
// log with its actor. It also owns who is let in to the admin page (Entrance).
package admin
