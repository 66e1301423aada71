//go:build reference

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// referencePDS is the reference on a data directory that stays, and on a port that it shares
// with the server that takes over.
type referencePDS struct {
	pdstest.Client

	dir, port, plc string
	// secret is its PDS_JWT_SECRET. blobs are its settings of blobs.
	secret string
	blobs  []string
	cmd    *exec.Cmd
	log    *bytes.Buffer
}

// settings are the lines of the operator's pds.env.
func (o *referencePDS) settings() []string {
	blobs := o.blobs
	if blobs == nil {
		blobs = []string{"PDS_BLOBSTORE_DISK_LOCATION=" + filepath.Join(o.dir, "blocks")}
	}
	return append([]string{
		"PDS_DEV_MODE=true", "PDS_HOSTNAME=localhost", "PDS_PORT=" + o.port, "PDS_DATA_DIRECTORY=" + o.dir, "PDS_SERVICE_DID=did:web:localhost",
		"PDS_DID_PLC_URL=" + o.plc, "PDS_JWT_SECRET=" + o.secret, "PDS_ADMIN_PASSWORD=admin-pass",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("5d", 32), "PDS_SERVICE_HANDLE_DOMAINS=.test",
		"PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMITS_ENABLED=false", "PDS_DISABLE_SSRF_PROTECTION=true",
		"PDS_BSKY_APP_VIEW_URL=http://127.0.0.1:9", "PDS_BSKY_APP_VIEW_DID=did:web:appview.invalid",
	}, blobs...)
}

// newReferencePDS chooses its directory and port.
func newReferencePDS(t *testing.T, plc string) *referencePDS {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return &referencePDS{dir: pdstest.TempDir(t), port: port, plc: plc, secret: strings.Repeat("s", 32), Client: pdstest.Client{Base: "http://localhost:" + port}}
}

// start runs it until stop, or the end of the test.
func (o *referencePDS) start(t *testing.T, more ...string) {
	t.Helper()
	folder := os.Getenv("PDS_REFERENCE")
	if folder == "" {
		t.Fatal("PDS_REFERENCE names no folder")
	}
	o.log = &bytes.Buffer{}
	o.cmd = exec.CommandContext(t.Context(), filepath.Join(folder, "node22"), "start.mjs", "pds")
	o.cmd.Dir = folder
	o.cmd.Env = append(append(os.Environ(), "NODE_ENV=production", "LOG_ENABLED=false"), o.settings()...)
	o.cmd.Env = append(o.cmd.Env, more...)
	o.cmd.Stderr = o.log
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := o.cmd
	t.Cleanup(func() { _ = cmd.Wait() }) // it ends with the test's context
	for begun := time.Now(); time.Since(begun) < streamPatience; time.Sleep(100 * time.Millisecond) {
		if a, err := o.Try(t, pdstest.Request{NSID: "_health"}); err == nil && a.Status == http.StatusOK {
			return
		}
	}
	t.Fatalf("the reference is not ready:\n%s", o.log)
}

// stop ends it by a signal.
func (o *referencePDS) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := o.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	_ = o.cmd.Wait() // how it ended is its own affair
}

// sourceFacts are what the source has, for comparison.
type sourceFacts struct {
	sessions map[string]pdstest.Session
	// apps are app passwords of alice by name: phone, watch (privileged), old (revoked).
	apps map[string]string
	// posts are URIs: erin's is taken down with its blob.
	erinPost, erinCID, erinBlob string
	// temporary is a blob of alice's that no record refers to yet, as uploadBlob returned it.
	temporary json.RawMessage
	// since are revisions of each account's repository from before the last writes.
	since     map[string]string
	invite    string
	resetCode string
}

var adminBasic = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+"admin-pass"))

func mustCall(t *testing.T, c pdstest.Client, auth, nsid string, in any) pdstest.Answer {
	t.Helper()
	a := c.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: auth, Body: in})
	if a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
	}
	return a
}

// fillSource makes everything of the list in section 9 of the contract.
func fillSource(t *testing.T, c pdstest.Client, mail *pdstest.Mailbox) *sourceFacts {
	t.Helper()
	f := &sourceFacts{sessions: map[string]pdstest.Session{}, apps: map[string]string{}, since: map[string]string{}}
	var code struct{ Code string }
	mustCall(t, c, adminBasic, "com.atproto.server.createInviteCode", map[string]any{"useCount": 3}).Decode(t, &code)
	f.invite = code.Code
	mustCall(t, c, adminBasic, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 2, "useCount": 1})
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"} {
		in := map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password}
		if name == "bob" || name == "alice" {
			in["inviteCode"] = f.invite
		}
		var s pdstest.Session
		mustCall(t, c, "", "com.atproto.server.createAccount", in).Decode(t, &s)
		f.sessions[name] = s
	}
	for name, s := range f.sessions {
		f.since[name] = revOf(t, c, s.DID)
	}
	f.fillRepositories(t, c)
	f.fillStatuses(t, c)
	alice := pdstest.Bearer(f.sessions["alice"].AccessJwt)
	for _, name := range []string{"phone", "watch", "old"} {
		var made struct{ Password string }
		mustCall(t, c, alice, "com.atproto.server.createAppPassword", map[string]any{"name": name, "privileged": name == "watch"}).Decode(t, &made)
		f.apps[name] = made.Password
	}
	grace, heidi := pdstest.Bearer(f.sessions["grace"].AccessJwt), pdstest.Bearer(f.sessions["heidi"].AccessJwt)
	mustCall(t, c, grace, "com.atproto.server.requestEmailConfirmation", nil)
	mail.Wait(t, "grace@example.com")
	mustCall(t, c, heidi, "app.bsky.actor.putPreferences", map[string]any{
		"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": false}},
	})
	mustCall(t, c, heidi, "com.atproto.identity.updateHandle", map[string]any{"handle": "heidi2.test"})
	mustCall(t, c, "", "com.atproto.server.reserveSigningKey", map[string]any{})
	return f
}

// revOf returns the revision of a repository.
func revOf(t *testing.T, c pdstest.Client, did string) string {
	t.Helper()
	var latest struct{ Rev string }
	c.Do(t, pdstest.Request{NSID: "com.atproto.sync.getLatestCommit?did=" + did}).Decode(t, &latest)
	return latest.Rev
}

func newPost(text string) map[string]any {
	return map[string]any{"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-01-01T00:00:00Z"}
}

func pictured(blob json.RawMessage) map[string]any {
	p := newPost("a picture")
	p["embed"] = map[string]any{"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "", "image": blob}}}
	return p
}

// uploadRandom uploads a picture that is like no other.
func uploadRandom(t *testing.T, c pdstest.Client, auth string) json.RawMessage {
	t.Helper()
	var out struct{ Blob json.RawMessage }
	c.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.uploadBlob", Auth: auth, Body: rand.Text(),
		Header: http.Header{"Content-Type": {"image/png"}},
	}).Decode(t, &out)
	return out.Blob
}

func writePost(t *testing.T, c pdstest.Client, auth, did string, record map[string]any) (uri, cid string) {
	t.Helper()
	var out struct{ URI, CID string }
	mustCall(t, c, auth, "com.atproto.repo.createRecord", map[string]any{"repo": did, "collection": "app.bsky.feed.post", "record": record}).Decode(t, &out)
	return out.URI, out.CID
}

func (f *sourceFacts) fillRepositories(t *testing.T, c pdstest.Client) {
	t.Helper()
	did, auth := f.sessions["alice"].DID, pdstest.Bearer(f.sessions["alice"].AccessJwt)
	for i := range 4 {
		var writes []any
		for n := range 100 {
			writes = append(writes, map[string]any{
				"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.post", "value": newPost(fmt.Sprintf("post %d %d", i, n)),
			})
		}
		mustCall(t, c, auth, "com.atproto.repo.applyWrites", map[string]any{"repo": did, "writes": writes})
	}
	f.since["alice"] = revOf(t, c, did) // after hundreds of posts
	writePost(t, c, auth, did, pictured(uploadRandom(t, c, auth)))
	f.temporary = uploadRandom(t, c, auth)
	uri, _ := writePost(t, c, auth, did, pictured(uploadRandom(t, c, auth)))
	mustCall(t, c, auth, "com.atproto.repo.deleteRecord", map[string]any{
		"repo": did, "collection": "app.bsky.feed.post", "rkey": uri[strings.LastIndexByte(uri, '/')+1:],
	})
}

// linkOf is the CID of a blob, as uploadBlob returned it.
func linkOf(t *testing.T, blob json.RawMessage) string {
	t.Helper()
	var ref struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	if err := json.Unmarshal(blob, &ref); err != nil {
		t.Fatal(err)
	}
	return ref.Ref.Link
}

func (f *sourceFacts) fillStatuses(t *testing.T, c pdstest.Client) {
	t.Helper()
	status := func(subject, takedown map[string]any) {
		mustCall(t, c, adminBasic, "com.atproto.admin.updateSubjectStatus", map[string]any{"subject": subject, "takedown": takedown})
	}
	account := func(name string) map[string]any {
		return map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": f.sessions[name].DID}
	}
	erin := f.sessions["erin"]
	blob := uploadRandom(t, c, pdstest.Bearer(erin.AccessJwt))
	uri, cid := writePost(t, c, pdstest.Bearer(erin.AccessJwt), erin.DID, pictured(blob))
	f.erinPost, f.erinCID, f.erinBlob = uri, cid, linkOf(t, blob)
	status(map[string]any{"$type": "com.atproto.repo.strongRef", "uri": uri, "cid": cid}, map[string]any{"applied": true, "ref": "case-1"})
	status(map[string]any{"$type": "com.atproto.admin.defs#repoBlobRef", "did": erin.DID, "cid": f.erinBlob}, map[string]any{"applied": true})
	status(account("bob"), map[string]any{"applied": true, "ref": "case-2"})
	status(account("frank"), map[string]any{"applied": true})
	status(account("frank"), map[string]any{"applied": false})
	mustCall(t, c, pdstest.Bearer(f.sessions["carol"].AccessJwt), "com.atproto.server.deactivateAccount",
		map[string]any{"deleteAfter": "2026-01-01T00:00:00.000Z"})
	mustCall(t, c, adminBasic, "com.atproto.admin.deleteAccount", map[string]any{"did": f.sessions["dave"].DID})
}
