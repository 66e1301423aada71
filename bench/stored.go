package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/auth"
	"nestbox/session"
)

// sessionsPerAccount is how many stored sessions an account has.
const sessionsPerAccount = 10

// storedHead is the generation of each stored session.
const storedHead = 40

// stored is a data directory with many sessions in it. They are written in SQL,
// as rows like those of the one account that a server made there before: to
// sign in a million times would take hours. The accounts' keys do not open, and
// their repositories are signed by the one's: nothing is written to those.
type stored struct {
	dir      string
	sessions int64
	// app is the program that all sessions belong to, grants of OAuth; nil if they are
	// of a password.
	app *app
	// op is a refresh of its sessions, inUse the sessions that a load uses.
	op    operation
	inUse []*user
}

// accounts is how many have them.
func (s stored) accounts() int64 { return s.sessions / sessionsPerAccount }

// fill makes one with sessions of passwords.
func fill(binary, dir string, sessions int64) (stored, error) {
	return filled(binary, dir, sessions, false)
}

// fillGrants makes one with grants of OAuth.
func fillGrants(binary, dir string, grants int64) (stored, error) {
	return filled(binary, dir, grants, true)
}

func filled(binary, dir string, sessions int64, grants bool) (stored, error) {
	s := stored{dir: dir, sessions: sessions}
	srv, err := nestbox(binary, dir)
	if err != nil {
		return s, err
	}
	_, err = signUp(srv, 1)
	if err := errors.Join(err, srv.stop()); err != nil {
		return s, err
	}
	scope, life, script := auth.ScopeAccess, 90*24*time.Hour, fillScript
	if grants {
		if s.app, err = newApp(""); err != nil {
			return s, err
		}
		scope, life, script = auth.ScopeOAuth, grantLife, fillScript+grantScript
	}
	conn, err := sqlite.OpenConn(filepath.Join(dir, "nestbox.sqlite"), sqlite.OpenReadWrite)
	if err != nil {
		return s, err
	}
	now := time.Now()
	args := map[string]any{
		":accounts": sessions / sessionsPerAccount, ":sessions": sessions, ":head": storedHead,
		":now": now.UnixMilli(), ":expires": now.Add(life).UnixMilli(), ":marks": marks(now), ":scope": string(scope),
	}
	if grants {
		args[":client"], args[":jkt"], args[":allowed"] = appID, s.app.jkt, appScope
	}
	err = sqlitex.ExecuteScript(conn, script, &sqlitex.ExecOptions{Named: args})
	return s, errors.Join(err, conn.Close())
}

// marks are those of a session that was refreshed every three hours, in the
// form in which the store keeps them.
func marks(now time.Time) []byte {
	const every = 3 * time.Hour
	var buf []byte
	at := int64(0)
	for i := range int64(8) {
		t := now.Add(time.Duration(i-9) * every).UnixMilli()
		generation := int64(1)
		if i == 0 {
			generation = storedHead - 8
		}
		buf = binary.AppendVarint(binary.AppendVarint(buf, t-at), generation)
		at = t
	}
	return buf
}

// Numbers go on after those of the account and the session that are there.
const fillScript = `
CREATE TEMP TABLE one AS SELECT * FROM account JOIN identity ON account_id = id;
WITH RECURSIVE n (id) AS (SELECT 2 UNION ALL SELECT id + 1 FROM n WHERE id <= :accounts)
INSERT INTO account (id, did, handle, email, email_key, password_hash, created_at, signing_key, signing_key_sealed)
SELECT n.id, printf('did:plc:%024d', n.id), printf('stored%d.test', n.id), printf('stored%d@example.com', n.id),
	printf('stored%d@example.com', n.id), password_hash, created_at, signing_key, signing_key_sealed
FROM n, one;
INSERT INTO identity (account_id, document, handle_invalid, checked_at)
SELECT a.id, CAST(replace(replace(CAST(one.document AS TEXT), one.did, a.did), one.handle, a.handle) AS BLOB), 0, one.checked_at
FROM account a, one WHERE a.id > 1;
INSERT INTO repo (account_id, current, cid, rev, commit_block, root_id, root_cid, next_node, records, first_rev)
SELECT a.id, 1, r.cid, r.rev, r.commit_block, r.root_id, r.root_cid, r.next_node, r.records, r.first_rev
FROM account a, repo r WHERE a.id > 1 AND r.account_id = 1;
INSERT INTO node (id, rev, children, block)
SELECT r.id << 32 | (n.id & 0xffffffff), n.rev, n.children, n.block
FROM repo r, node n, repo one WHERE r.account_id > 1 AND one.account_id = 1 AND n.id >> 32 = one.id;
WITH RECURSIVE n (id) AS (SELECT 2 UNION ALL SELECT id + 1 FROM n WHERE id <= :sessions)
INSERT INTO session (id, nonce, account_id, scope, created_at, head, rotated_at, marks, floor, expires, network, user_agent)
SELECT id, printf('%012d', id), 2 + id % :accounts, :scope, :now, :head, :now, :marks, 0, :expires,
	printf('10.%d.%d.%d', id >> 16, id >> 8 & 255, id & 255),
	'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36'
FROM n;
DROP TABLE one;
`

// grantLife is how long the session of a public client lives.
const grantLife = 14 * 24 * time.Hour

// All grants belong to one program. A call of it was recorded half a day ago.
const grantScript = `
INSERT INTO oauth_session (
	session_id, client_id, auth_method, kid, alg, client_jkt, dpop_jkt, requested_scope, granted_scope, token_scope, set_versions,
	ends_at, last_call_at, version
)
SELECT id, :client, 'none', '', '', '', :jkt, :allowed, :allowed, :allowed, '', :expires, :now - 12 * 60 * 60 * 1000, 1
FROM session WHERE scope = 'oauth';
`

// users are n holders of stored sessions, far apart from each other in the
// database, so that what one refresh reads does not help the next.
func (s stored) users(n int64) []*user {
	n = min(n, s.sessions)
	// Prime, and so of no common factor with the number of sessions.
	const step = 7_368_787
	users := make([]*user, n)
	for i := range n {
		users[i] = &user{id: 2 + i*step%s.sessions}
	}
	return users
}

// refresh is the refresh of a stored session at a server; its first token is made here.
func (s stored) refresh(srv *server) (operation, error) {
	keyring, err := auth.OpenKeyring(filepath.Join(s.dir, "keyring.json"), "", time.Now)
	if err != nil {
		return operation{}, err
	}
	if s.app != nil {
		return s.refreshGrant(srv, keyring)
	}
	return operation{"refresh of a stored session", func(c *conn, u *user) error {
		if u.refresh == "" {
			st := session.State{ID: u.id, Nonce: fmt.Sprintf("%012d", u.id)}
			pair, err := keyring.MintPair(auth.Issue{
				Audience: "did:web:localhost", DID: syntax.DID(fmt.Sprintf("did:plc:%024d", 2+u.id%s.accounts())),
				Scope: auth.ScopeAccess, SID: st.SID(), JTI: st.JTI(storedHead), Now: time.Now(), AccessTTL: time.Hour, RefreshTTL: 24 * time.Hour,
			})
			if err != nil {
				return err
			}
			u.refresh = pair.Refresh
		}
		return refresh.do(c, u)
	}}, nil
}

func (s stored) refreshGrant(srv *server, keyring *auth.Keyring) (operation, error) {
	at, err := siteOf(srv)
	if err != nil {
		return operation{}, err
	}
	owned := *s.app
	owned.origin = at.origin
	return operation{"refresh of a stored grant", func(c *conn, u *user) error {
		if u.refresh == "" {
			st, now := session.State{ID: u.id, Nonce: fmt.Sprintf("%012d", u.id)}, time.Now()
			pair, err := keyring.MintOAuth(auth.OAuthIssue{
				Issuer: at.origin, Audience: "did:web:localhost", DID: syntax.DID(fmt.Sprintf("did:plc:%024d", 2+u.id%s.accounts())),
				ClientID: appID, SID: st.SID(), JTI: st.JTI(storedHead), JKT: owned.jkt,
				Now: now, AccessExpires: now.Add(time.Hour), RefreshExpires: now.Add(24 * time.Hour),
			})
			if err != nil {
				return err
			}
			u.refresh, u.app = pair.Refresh, &owned
		}
		return refreshGrant.do(c, u)
	}}, nil
}
