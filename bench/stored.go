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
	// op is a refresh of its sessions, inUse the sessions that a load uses.
	op    operation
	inUse []*user
}

// accounts is how many have them.
func (s stored) accounts() int64 { return s.sessions / sessionsPerAccount }

// fill makes one.
func fill(binary, dir string, sessions int64) (stored, error) {
	s := stored{dir: dir, sessions: sessions}
	srv, err := nestbox(binary, dir)
	if err != nil {
		return s, err
	}
	_, err = signUp(srv, 1)
	if err := errors.Join(err, srv.stop()); err != nil {
		return s, err
	}
	conn, err := sqlite.OpenConn(filepath.Join(dir, "nestbox.sqlite"), sqlite.OpenReadWrite)
	if err != nil {
		return s, err
	}
	now := time.Now()
	args := map[string]any{
		":accounts": sessions / sessionsPerAccount, ":sessions": sessions, ":head": storedHead,
		":now": now.UnixMilli(), ":expires": now.Add(90 * 24 * time.Hour).UnixMilli(), ":marks": marks(now),
	}
	err = sqlitex.ExecuteScript(conn, fillScript, &sqlitex.ExecOptions{Named: args})
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
SELECT id, printf('%012d', id), 2 + id % :accounts, 'com.atproto.access', :now, :head, :now, :marks, 0, :expires,
	printf('10.%d.%d.%d', id >> 16, id >> 8 & 255, id & 255),
	'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36'
FROM n;
DROP TABLE one;
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

// refresh is the refresh of a stored session; its first token is made here.
func (s stored) refresh() (operation, error) {
	keyring, err := auth.OpenKeyring(filepath.Join(s.dir, "keyring.json"), "", time.Now)
	if err != nil {
		return operation{}, err
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
