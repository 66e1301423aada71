// Package admin owns what the operator and moderators do: looking at accounts,
// taking them down, setting passwords, ending sessions, turning keys. The
// endpoints of com.atproto.admin and the command line act through the same
// Service, so that neither goes behind the running server's back.
package admin
