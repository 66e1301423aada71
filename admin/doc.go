// Package admin owns what the operator and moderators do: view accounts, take
// them down, set passwords, end sessions, rotate keys. The endpoints of
// com.atproto.admin and the command line act through the same Service, so that
// no change bypasses the running server.
package admin
