package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atclient"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/internal/pdstest"
)

// house is a server from or to which an account moves.
type house struct {
	name string
	base string
	mail *pdstest.Mailbox
	// preferences is how many of the three it reports.
	preferences int64
}

// The account that moves has so many records, and blobs that they refer to.
const (
	movedRecords = 2000
	movedBlobs   = 50
)

// TestMigration moves an account from one Nestbox to another, as a migration tool
// does it, by indigo's client. In TestReferenceMigration the reference takes each
// of the two parts.
func TestMigration(t *testing.T) {
	plc := startPLC(t)
	open := func(name string) house {
		box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
		p := pdstest.Launch(t, "", append(box.Settings(), "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)...)
		return house{name, p.Base, box, 3}
	}
	migrate(t, plc, open("one"), open("another"), "alice")
}

// mover is an account on its way.
type mover struct {
	t        *testing.T
	name     string
	did      string
	from, to house
	old, now *atclient.APIClient
}

// migrate makes an account with all kinds of content, moves it, and checks both
// sides.
func migrate(t *testing.T, plc string, from, to house, name string) {
	t.Helper()
	newMover(t, from, to, name).move(plc)
}

// newMover makes an account with all kinds of content.
func newMover(t *testing.T, from, to house, name string) *mover {
	t.Helper()
	m := &mover{t: t, name: name, from: from, to: to}
	made := pdstest.Client{Base: from.base}.SignUp(t, name)
	m.did, m.old = made.DID, login(t, from, name)
	m.fill()
	return m
}

// move moves the account and checks both sides.
func (m *mover) move(plc string) {
	t := m.t
	t.Helper()
	before := m.export(m.old)
	m.moveIn()
	m.wantRefused("activated before anything points here", comatproto.ServerActivateAccount(t.Context(), m.now), http.StatusBadRequest)
	m.carry(before)
	m.wantStatus("before the DID points here", false, false)
	m.point(plc)
	m.wantStatus("before it is activated", false, true)
	if err := comatproto.ServerActivateAccount(t.Context(), m.now); err != nil {
		t.Fatalf("activate: %v", err)
	}
	if err := comatproto.ServerDeactivateAccount(t.Context(), m.old, &comatproto.ServerDeactivateAccount_Input{}); err != nil {
		t.Fatalf("deactivate: %v", err)
	}
	m.wantStatus("in the end", true, true)
	m.compare(before, m.export(m.now))
	m.wantSides()
}

// login is a session of indigo's client.
func login(t *testing.T, at house, name string) *atclient.APIClient {
	t.Helper()
	c, err := atclient.LoginWithPasswordHost(t.Context(), at.base, name+".test", pdstest.Password, "", nil)
	if err != nil {
		t.Fatalf("sign in at %s: %v", at.name, err)
	}
	return c
}

// post makes a call with JSON.
func (m *mover) post(c *atclient.APIClient, nsid syntax.NSID, in, out any) {
	m.t.Helper()
	if err := c.Post(m.t.Context(), nsid, in, out); err != nil {
		m.t.Fatalf("%s at %s: %v", nsid, c.Host, err)
	}
}

func (m *mover) get(c *atclient.APIClient, nsid syntax.NSID, params map[string]any, out any) {
	m.t.Helper()
	if err := c.Get(m.t.Context(), nsid, params, out); err != nil {
		m.t.Fatalf("%s at %s: %v", nsid, c.Host, err)
	}
}

// preferences are what an app and the owner have set.
const preferences = `[
	{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true},
	{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-05-01T00:00:00.000Z"},
	{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"3jui7kd54zh2y","type":"timeline","value":"following","pinned":true}]}
]`

// fill writes what is to be moved.
func (m *mover) fill() {
	m.t.Helper()
	var images []json.RawMessage
	for i := range movedBlobs {
		var up struct{ Blob json.RawMessage }
		m.upload(m.old, []byte(fmt.Sprintf("picture %d of %s", i, m.name)), "image/png", &up)
		images = append(images, up.Blob)
	}
	var writes []any
	for i := range movedRecords {
		record := map[string]any{"$type": "app.bsky.feed.post", "text": fmt.Sprintf("post %d", i), "createdAt": "2026-08-01T12:00:00.000Z"}
		if i < len(images) {
			record["embed"] = map[string]any{"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "", "image": images[i]}}}
		}
		writes = append(writes, map[string]any{
			"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.post", "rkey": syntax.NewTID(int64(i)*1_000_003+1_700_000_000_000_000, 1), "value": record,
		})
		if len(writes) == 200 {
			m.post(m.old, "com.atproto.repo.applyWrites", map[string]any{"repo": m.did, "writes": writes}, nil)
			writes = nil
		}
	}
	m.post(m.old, "app.bsky.actor.putPreferences", map[string]any{"preferences": json.RawMessage(preferences)}, nil)
}

func (m *mover) upload(c *atclient.APIClient, data []byte, kind string, out any) {
	m.t.Helper()
	req := atclient.NewAPIRequest(http.MethodPost, "com.atproto.repo.uploadBlob", bytes.NewReader(data))
	req.Headers.Set("Content-Type", kind)
	resp, err := c.Do(m.t.Context(), req)
	if err != nil {
		m.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		m.t.Fatalf("upload to %s: %d %s, %v", c.Host, resp.StatusCode, body, err)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *mover) export(c *atclient.APIClient) []byte {
	m.t.Helper()
	car, err := comatproto.SyncGetRepo(m.t.Context(), c, m.did, "")
	if err != nil {
		m.t.Fatalf("export from %s: %v", c.Host, err)
	}
	return car
}

// moveIn makes the account at its new home, by a token of the old.
func (m *mover) moveIn() {
	m.t.Helper()
	fresh := atclient.NewAPIClient(m.to.base)
	var described struct{ DID string }
	m.get(fresh, "com.atproto.server.describeServer", nil, &described)
	token, err := comatproto.ServerGetServiceAuth(m.t.Context(), m.old, described.DID, 0, "com.atproto.server.createAccount")
	if err != nil {
		m.t.Fatalf("token of %s: %v", m.from.name, err)
	}
	in := &comatproto.ServerCreateAccount_Input{
		Did: &m.did, Handle: m.name + ".test", Email: new(m.name + "@example.com"), Password: new(pdstest.Password),
	}
	_, err = comatproto.ServerCreateAccount(m.t.Context(), fresh, in)
	m.wantRefused("moving in without a token", err, http.StatusUnauthorized)
	fresh.Headers.Set("Authorization", "Bearer "+token.Token)
	out, err := comatproto.ServerCreateAccount(m.t.Context(), fresh, in)
	if err != nil || out.Did != m.did {
		m.t.Fatalf("move in at %s: %+v, %v", m.to.name, out, err)
	}
	m.now = login(m.t, m.to, m.name)
}

// carry brings repository, blobs and preferences.
func (m *mover) carry(car []byte) {
	m.t.Helper()
	if err := comatproto.RepoImportRepo(m.t.Context(), m.now, bytes.NewReader(car)); err != nil {
		m.t.Fatalf("import at %s: %v", m.to.name, err)
	}
	brought, cursor := 0, ""
	for {
		missing, err := comatproto.RepoListMissingBlobs(m.t.Context(), m.now, cursor, 20)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, b := range missing.Blobs {
			data, err := comatproto.SyncGetBlob(m.t.Context(), m.old, b.Cid, m.did)
			if err != nil {
				m.t.Fatalf("blob %s of %s: %v", b.Cid, m.from.name, err)
			}
			m.upload(m.now, data, "image/png", nil)
			brought++
		}
		if missing.Cursor == nil || len(missing.Blobs) == 0 {
			break
		}
		cursor = *missing.Cursor
	}
	if brought != movedBlobs {
		m.t.Errorf("%d blobs were missing, want %d", brought, movedBlobs)
	}
	var prefs struct{ Preferences json.RawMessage }
	m.get(m.old, "app.bsky.actor.getPreferences", nil, &prefs)
	m.post(m.now, "app.bsky.actor.putPreferences", map[string]any{"preferences": prefs.Preferences}, nil)
}

// point makes the DID document point to the new home: the old one signs, by a code
// that comes by mail, and the new one submits.
func (m *mover) point(plc string) {
	m.t.Helper()
	var recommended map[string]any
	m.get(m.now, "com.atproto.identity.getRecommendedDidCredentials", nil, &recommended)
	if err := comatproto.IdentityRequestPlcOperationSignature(m.t.Context(), m.old); err != nil {
		m.t.Fatal(err)
	}
	recommended["token"] = m.code()
	var signed struct {
		Operation json.RawMessage `json:"operation"`
	}
	m.post(m.old, "com.atproto.identity.signPlcOperation", recommended, &signed)
	m.post(m.now, "com.atproto.identity.submitPlcOperation", signed, nil)
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, plc+"/"+m.did, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	doc, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(doc), `"serviceEndpoint":"`+m.to.base+`"`) {
		m.t.Errorf("the DID document is %s, %v", doc, err)
	}
}

var codeForm = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// code is the code in a mail of the old home, which sends notices as well.
func (m *mover) code() string {
	m.t.Helper()
	for {
		if code := codeForm.FindString(m.from.mail.Wait(m.t, m.name+"@example.com").Text); code != "" {
			return code
		}
	}
}

// wantStatus checks what the new home reports of the account.
func (m *mover) wantStatus(what string, activated, valid bool) {
	m.t.Helper()
	s, err := comatproto.ServerCheckAccountStatus(m.t.Context(), m.now)
	if err != nil {
		m.t.Fatal(err)
	}
	if s.Activated != activated || s.ValidDid != valid || s.IndexedRecords != movedRecords || s.ExpectedBlobs != movedBlobs ||
		s.ImportedBlobs != movedBlobs || s.PrivateStateValues != m.to.preferences || s.RepoBlocks <= movedRecords {
		m.t.Errorf("%s: %+v", what, s)
	}
}

func (m *mover) wantRefused(what string, err error, status int) {
	m.t.Helper()
	var e *atclient.APIError
	if !errors.As(err, &e) || e.StatusCode != status {
		m.t.Errorf("%s: %v, want %d", what, err, status)
	}
}

// compare fails the test unless tree and records are the same.
func (m *mover) compare(before, after []byte) {
	m.t.Helper()
	tree := func(car []byte) (cid.Cid, map[string]cid.Cid) {
		commit, r, err := indigorepo.LoadRepoFromCAR(m.t.Context(), bytes.NewReader(car))
		if err != nil {
			m.t.Fatal(err)
		}
		records := map[string]cid.Cid{}
		if err := r.MST.WriteToMap(records); err != nil {
			m.t.Fatal(err)
		}
		return commit.Data, records
	}
	oldRoot, oldRecords := tree(before)
	root, records := tree(after)
	if root != oldRoot || !maps.Equal(records, oldRecords) || len(records) != movedRecords {
		m.t.Errorf("the tree is %s of %d records, was %s of %d", root, len(records), oldRoot, len(oldRecords))
	}
}

// wantSides checks the sessions, the blobs and the preferences of both homes.
func (m *mover) wantSides() {
	m.t.Helper()
	status := func(at house) (s struct {
		Active bool
		Status string
	},
	) {
		m.t.Helper()
		m.get(atclient.NewAPIClient(at.base), "com.atproto.sync.getRepoStatus", map[string]any{"did": m.did}, &s)
		return s
	}
	if s := status(m.from); s.Active || s.Status != "deactivated" {
		m.t.Errorf("%s: %+v", m.from.name, s)
	}
	if s := status(m.to); !s.Active {
		m.t.Errorf("%s: %+v", m.to.name, s)
	}
	write := func(c *atclient.APIClient) error {
		return c.Post(m.t.Context(), "com.atproto.repo.createRecord", map[string]any{
			"repo": m.did, "collection": "app.bsky.feed.post",
			"record": map[string]any{"$type": "app.bsky.feed.post", "text": "at home", "createdAt": "2026-08-02T12:00:00.000Z"},
		}, nil)
	}
	m.wantRefused("writing to the old home", write(m.old), http.StatusUnauthorized)
	if err := write(m.now); err != nil {
		m.t.Errorf("writing to the new home: %v", err)
	}
	var session struct {
		DID    string
		Active bool
		Status string
	}
	if m.get(m.old, nsidGetSession, nil, &session); session.DID != m.did || session.Active || session.Status != "deactivated" {
		m.t.Errorf("the session at %s: %+v", m.from.name, session)
	}
	session.Status = ""
	if m.get(m.now, nsidGetSession, nil, &session); session.DID != m.did || !session.Active || session.Status != "" {
		m.t.Errorf("the session at %s: %+v", m.to.name, session)
	}
	for _, c := range []*atclient.APIClient{m.old, m.now} {
		auth, ok := c.Auth.(*atclient.PasswordAuth)
		if !ok {
			m.t.Fatalf("the client has no session but %T", c.Auth)
		}
		_, token := auth.GetTokens()
		if err := auth.Refresh(m.t.Context(), c.Client, token); err != nil {
			m.t.Errorf("refresh at %s: %v", c.Host, err)
		}
	}
	var prefs struct{ Preferences []map[string]any }
	m.get(m.now, "app.bsky.actor.getPreferences", nil, &prefs)
	var kinds []string
	for _, p := range prefs.Preferences {
		kind, _ := p["$type"].(string)
		kinds = append(kinds, strings.TrimPrefix(kind, "app.bsky.actor.defs#"))
	}
	if got := strings.Join(kinds, " "); got != "adultContentPref personalDetailsPref savedFeedsPrefV2 declaredAgePref" {
		m.t.Errorf("preferences: %s", got)
	}
	data, err := comatproto.SyncGetBlob(m.t.Context(), atclient.NewAPIClient(m.to.base), m.firstBlob(), m.did)
	if err != nil || !strings.HasPrefix(string(data), "picture ") {
		m.t.Errorf("a blob: %q, %v", data, err)
	}
}

func (m *mover) firstBlob() string {
	m.t.Helper()
	var list struct{ CIDs []string }
	m.get(atclient.NewAPIClient(m.to.base), "com.atproto.sync.listBlobs", map[string]any{"did": m.did}, &list)
	if len(list.CIDs) != movedBlobs {
		m.t.Fatalf("%d blobs at %s, want %d", len(list.CIDs), m.to.name, movedBlobs)
	}
	return list.CIDs[0]
}
