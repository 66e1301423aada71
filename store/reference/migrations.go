package reference

import (
	"slices"

	"zombiezen.com/go/sqlite"
)

// Kind is which of the source's databases one is.
type Kind string

// The kinds.
const (
	KindAccounts  Kind = "accounts"
	KindEvents    Kind = "event log"
	KindDocuments Kind = "DID documents"
	KindActor     Kind = "actor"
)

// known returns the migrations (kysely_migration.name) of a kind of database whose result
// this package reads.
func (k Kind) known() []string {
	if k == KindAccounts {
		return []string{"001", "002", "003", "004", "005", "006", "007"}
	}
	return []string{"001"}
}

// Schema is what a database says of its own form.
type Schema struct {
	// Unknown are the names of migrations that this package does not know: the database is of
	// a newer version.
	Unknown []string
	// Missing are those that it knows and the database lacks: it is of an older version.
	Missing []string
	// Locked: a migration was begun and not ended.
	Locked bool
}

// Schema reads the names of a database's migrations.
func (db *DB) Schema(k Kind) (s Schema, err error) {
	known := k.known()
	s.Missing = slices.Clone(known)
	err = db.each("SELECT name FROM kysely_migration ORDER BY name", nil, func(r *sqlite.Stmt) error {
		name := r.ColumnText(0)
		if !slices.Contains(known, name) {
			s.Unknown = append(s.Unknown, name)
		}
		s.Missing = slices.DeleteFunc(s.Missing, func(m string) bool { return m == name })
		return nil
	})
	if err != nil {
		return s, err
	}
	locks, err := db.has("kysely_migration_lock", "")
	if err != nil || !locks {
		return s, err
	}
	err = db.each("SELECT 1 FROM kysely_migration_lock WHERE is_locked <> 0", nil, func(*sqlite.Stmt) error {
		s.Locked = true
		return nil
	})
	return s, err
}

// Unread returns the tables and columns of a database that this package does not know, so
// that nothing of them is taken over.
func (db *DB) Unread(k Kind) (names []string, err error) {
	known := k.tables()
	err = db.each(`SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'kysely_%' ORDER BY m.name, c.cid`, nil,
		func(r *sqlite.Stmt) error {
			table, column := r.ColumnText(0), r.ColumnText(1)
			columns, there := known[table]
			switch {
			case !there && !slices.Contains(names, table):
				names = append(names, table)
			case there && !slices.Contains(columns, column):
				names = append(names, table+"."+column)
			}
			return nil
		})
	return names, err
}

// tables returns the tables and columns of a kind of database as the known migrations make
// them.
func (k Kind) tables() map[string][]string {
	root := []string{"did", "cid", "rev", "indexedAt"}
	switch k {
	case KindAccounts:
		return map[string][]string{
			"actor":                 {"did", "handle", "createdAt", "takedownRef", "deactivatedAt", "deleteAfter"},
			"account":               {"did", "email", "passwordScrypt", "emailConfirmedAt", "invitesDisabled"},
			"app_password":          {"did", "name", "passwordScrypt", "createdAt", "privileged"},
			"refresh_token":         {"id", "did", "expiresAt", "nextId", "appPasswordName"},
			"repo_root":             root,
			"invite_code":           {"code", "availableUses", "disabled", "forAccount", "createdBy", "createdAt"},
			"invite_code_use":       {"code", "usedBy", "usedAt"},
			"email_token":           {"purpose", "did", "token", "requestedAt"},
			"device":                {"id", "sessionId", "userAgent", "ipAddress", "lastSeenAt"},
			"account_device":        {"did", "deviceId", "createdAt", "updatedAt"},
			"device_account":        {"did", "deviceId", "authenticatedAt", "remember", "authorizedClients"},
			"authorized_client":     {"did", "clientId", "createdAt", "updatedAt", "data"},
			"authorization_request": {"id", "did", "deviceId", "clientId", "clientAuth", "parameters", "expiresAt", "code"},
			"token": {
				"id", "did", "tokenId", "createdAt", "updatedAt", "expiresAt", "clientId", "clientAuth", "deviceId", "parameters",
				"details", "code", "currentRefreshToken", "scope",
			},
			"used_refresh_token": {"refreshToken", "tokenId"},
			"lexicon":            {"nsid", "createdAt", "updatedAt", "lastSucceededAt", "uri", "lexicon"},
		}
	case KindEvents:
		return map[string][]string{"repo_seq": {"seq", "did", "eventType", "event", "invalidated", "sequencedAt"}}
	case KindDocuments:
		return map[string][]string{"did_doc": {"did", "doc", "updatedAt"}}
	case KindActor:
		return map[string][]string{
			"repo_root":    root,
			"repo_block":   {"cid", "repoRev", "size", "content"},
			"record":       {"uri", "cid", "collection", "rkey", "repoRev", "indexedAt", "takedownRef"},
			"blob":         {"cid", "mimeType", "size", "tempKey", "width", "height", "createdAt", "takedownRef"},
			"record_blob":  {"blobCid", "recordUri"},
			"backlink":     {"uri", "path", "linkTo"},
			"account_pref": {"id", "name", "valueJson"},
		}
	}
	return nil
}
