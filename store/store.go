// Package store is the set of the domains' stores on one database, and what can be inspected
// of it. It has no code: each domain declares the Store that it needs, and store/sqlite
// implements them.
//
// A contract's sentences hold for every implementation, with one server on the database or
// with several. What only one of them promises, its own comment says.
package store

import (
	"nestbox/account"
	"nestbox/admin"
	"nestbox/blob"
	"nestbox/device"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/moving"
	"nestbox/oauth"
	"nestbox/oauth/client"
	"nestbox/prefs"
	"nestbox/repo"
	"nestbox/schema"
	"nestbox/session"
	"nestbox/signin"
	"nestbox/takeover"
)

// Stores are the domains' stores on one database.
type Stores struct {
	Accounts account.Store
	Codes    account.CodeStore
	Factors  signin.Store
	Sessions session.Store
	OAuth    oauth.Store
	Devices  device.Store
	Hosting  hosting.Store
	// Handles and SigningKeys keep changes of those that are under way.
	Handles     hosting.HandleStore
	SigningKeys hosting.KeyStore
	Identity    identity.Store
	Repos       repo.Store
	Blobs       blob.Store
	Prefs       prefs.Store
	Jobs        moving.Store
	// Legacy is what a take-over brings of sessions.
	Legacy takeover.LegacyStore
	// PermissionSets are those that Lexicons publish.
	PermissionSets schema.Store
	Log            firehose.Log
	// Announcements are those of Log.
	Announcements repo.Announcements
	Outbox        mail.Store
	Clients       client.Store
	Admin         admin.Store
	// Entries are who is signed in on the admin page.
	Entries admin.EntranceStore
	// Views are what that page reads of all accounts at once.
	Views admin.ViewStore
	// Inspect is for checks of all that they hold.
	Inspect Inspector
}
