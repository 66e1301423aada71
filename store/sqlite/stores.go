package sqlite

import "nestbox/store"

// Stores returns every domain's store on the database.
func (db *DB) Stores() store.Stores {
	return store.Stores{
		Accounts: Accounts{db},
		Codes:    Codes{db},
		Factors:  Factors{db},
		Sessions: Sessions{db},
		Devices:  Devices{db},
		OAuth:    OAuth{db},
		Hosting:  Hosting{db}, Handles: Hosting{db}, SigningKeys: Hosting{db},
		Identity: Identities{db}, Repos: Repos{db}, Blobs: Blobs{db}, Prefs: Prefs{db},
		PermissionSets: PermissionSets{db}, Jobs: Jobs{db}, Legacy: db.Legacy(),
		Clients: Clients{db},
		Log:     EventLog{db}, Announcements: EventLog{db}, Outbox: Outbox{db}, Admin: Admin{db}, Entries: Admin{db}, Views: Admin{db},
		Inspect: Inspector{db.path},
	}
}
