package sqlite

import "nestbox/store"

// Stores returns every domain's store on the database.
func (db *DB) Stores() store.Stores {
	return store.Stores{
		Accounts: Accounts{db}, Codes: Codes{db}, Sessions: Sessions{db},
		Devices: Devices{db},
		OAuth:   OAuth{db},
