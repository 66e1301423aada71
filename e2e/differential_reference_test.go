//go:build reference

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// adminPassword is the admin password of both servers.
const adminPassword = "admin-pass"

// side is one of the two servers, with the same accounts on each: alice and bob are
// active, dora is deactivated, tom taken down, and gone was deleted.
type side struct {
	pdstest.Client

	mail     *pdstest.Mailbox
	sessions map[string]pdstest.Session
	// tokens are Authorization headers by the name of a credential.
	tokens map[string]string
	// names are the values that differ between the servers, and their names in
	// lines.
	names map[string]string
	// post is a record of alice's, blob one of her blobs, head her last commit.
	post       struct{ URI, CID string }
	blob, head string
}

// credentials are the kinds of them that every endpoint is called with.
var credentials = []string{
	"none", "garbage", "access", "refresh", "app password", "privileged app password", "deactivated", "takendown", "deleted", "admin", "wrong admin",
}

// prepare makes the accounts.
func prepare(t *testing.T, c pdstest.Client, mail *pdstest.Mailbox) *side {
	t.Helper()
	s := &side{Client: c, mail: mail, sessions: map[string]pdstest.Session{}, names: map[string]string{c.Base: "<base>"}}
	for _, name := range []string{"alice", "bob", "dora", "tom", "gone"} {
		s.sessions[name] = c.SignUp(t, name)
		s.names[s.sessions[name].DID] = "<" + name + ">"
	}
	alice := pdstest.Bearer(s.sessions["alice"].AccessJwt)
	admin := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword))
	s.must(t, alice, "com.atproto.repo.createRecord", map[string]any{
		"repo": s.sessions["alice"].DID, "collection": "app.bsky.feed.post", "rkey": "3jui7kd54zh2y",
		"record": map[string]any{"$type": "app.bsky.feed.post", "text": "hello", "createdAt": "2026-08-01T12:00:00.000Z"},
	}).Decode(t, &s.post)
	var up struct {
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			}
		}
	}
	a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.repo.uploadBlob", Auth: alice, Body: "a picture", Header: http.Header{"Content-Type": {"image/png"}}})
	a.Decode(t, &up)
	s.blob = up.Blob.Ref.Link
	s.must(t, alice, "com.atproto.repo.putRecord", map[string]any{
		"repo": s.sessions["alice"].DID, "collection": "app.bsky.actor.profile", "rkey": "self",
		"record": map[string]any{"$type": "app.bsky.actor.profile", "avatar": map[string]any{
			"$type": "blob", "ref": map[string]string{"$link": s.blob}, "mimeType": "image/png", "size": len("a picture"),
		}},
	})
	var head struct{ CID string }
	s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.sync.getLatestCommit?did=" + s.sessions["alice"].DID}).Decode(t, &head)
	s.head = head.CID
	app := func(name string, privileged bool) string {
		var made struct{ Password string }
		s.must(t, alice, "com.atproto.server.createAppPassword", map[string]any{"name": name, "privileged": privileged}).Decode(t, &made)
		return pdstest.Bearer(c.SignIn(t, "alice.test", made.Password).AccessJwt)
	}
	s.tokens = map[string]string{
		"none": "", "garbage": "Bearer garbage", "access": alice, "refresh": pdstest.Bearer(s.sessions["alice"].RefreshJwt),
		"app password": app("app", false), "privileged app password": app("privileged", true),
		"deactivated": pdstest.Bearer(s.sessions["dora"].AccessJwt), "takendown": pdstest.Bearer(s.sessions["tom"].AccessJwt),
		"deleted": pdstest.Bearer(s.sessions["gone"].AccessJwt), "admin": admin,
		"wrong admin": "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:wrong")),
		"bob":         pdstest.Bearer(s.sessions["bob"].AccessJwt),
	}
	s.must(t, s.tokens["deactivated"], "com.atproto.server.deactivateAccount", map[string]any{})
	s.must(t, admin, "com.atproto.admin.updateSubjectStatus", map[string]any{
		"subject":  map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": s.sessions["tom"].DID},
		"takedown": map[string]any{"applied": true, "ref": "1"},
	})
	s.must(t, admin, "com.atproto.admin.deleteAccount", map[string]any{"did": s.sessions["gone"].DID})
	return s
}

func (s *side) must(t *testing.T, auth, nsid string, in any) pdstest.Answer {
	t.Helper()
	a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: auth, Body: in})
	if a.Status != http.StatusOK {
		t.Fatalf("%s at %s: %d %s", nsid, s.Base, a.Status, a.Body)
	}
	return a
}

// probe is one request.
type probe struct {
	nsid, credential string
	// params or in are its content, with {alice} and the like for values that
	// differ.
	params map[string]string
	in     any
	post   bool
}

func (p probe) String() string {
	var said string
	switch {
	case p.post && p.in != nil:
		raw, err := json.Marshal(p.in)
		if err != nil {
			panic(err) // the tables below encode
		}
		said = string(raw)
	case !p.post:
		for _, name := range slices.Sorted(maps.Keys(p.params)) {
			said += " " + name + "=" + p.params[name]
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s by %s: %s", strings.TrimPrefix(p.nsid, "com.atproto."), p.credential, strings.TrimSpace(said)))
}

// fill puts in what differs.
func (s *side) fill(text string) string {
	pairs := []string{"{post}", s.post.URI, "{postCID}", s.post.CID, "{blob}", s.blob, "{head}", s.head}
	for name, session := range s.sessions {
		pairs = append(pairs, "{"+name+"}", session.DID)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// answer returns a server's answer to a probe in one line: status and error, or
// the answer's shape.
func (s *side) answer(t *testing.T, p probe) string {
	t.Helper()
	r := pdstest.Request{Method: http.MethodGet, NSID: p.nsid, Auth: s.tokens[p.credential]}
	if p.post {
		r.Method = http.MethodPost
		if p.in != nil {
			raw, err := json.Marshal(p.in)
			if err != nil {
				t.Fatal(err)
			}
			r.Body, r.Header = s.fill(string(raw)), http.Header{"Content-Type": {"application/json"}}
		}
	} else if len(p.params) > 0 {
		q := url.Values{}
		for name, value := range p.params {
			q.Set(name, s.fill(value))
		}
		r.NSID += "?" + q.Encode()
	}
	a := s.Do(t, r)
	if a.Status != http.StatusOK {
		var e struct{ Error, Message string }
		if err := json.Unmarshal(a.Body, &e); err != nil {
			return fmt.Sprintf("%d %q", a.Status, a.Body)
		}
		return fmt.Sprintf("%d %s\x00%s", a.Status, e.Error, s.anonymous(e.Message))
	}
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		return fmt.Sprintf("%d %s", a.Status, a.Header.Get("Content-Type"))
	}
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return fmt.Sprintf("%d, no JSON: %v", a.Status, err)
	}
	return fmt.Sprintf("%d %s", a.Status, shape(v))
}

var differs = regexp.MustCompile(`did:plc:[a-z2-7]{24}|baf[a-z2-7]{56}|[234567a-z]{13}`)

func (s *side) anonymous(text string) string {
	for what, name := range s.names {
		text = strings.ReplaceAll(text, what, name)
	}
	return differs.ReplaceAllString(text, "<…>")
}

// shape is the type of a JSON value: of a list that of its first member.
func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			fields = append(fields, name+":"+shape(v[name]))
		}
		return "{" + strings.Join(fields, " ") + "}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + shape(v[0]) + "]"
	case string:
		return "s"
	case float64:
		return "n"
	case bool:
		return "b"
	default:
		return "null"
	}
}

// TestReferenceDifferences sends both servers the same requests: every endpoint with
// every kind of credential and nothing else, then the requests of a table. Status, error
// and the shape of answers must be the same, unless the difference is in accepted.
func TestReferenceDifferences(t *testing.T) {
	plc := startPLC(t)
	start := func(base func(settings []string) string) *side {
		box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
		return prepare(t, pdstest.Client{Base: base(box.Settings())}, box)
	}
	ours := start(func(settings []string) string {
		return pdstest.Launch(t, "", append(settings, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc, "PDS_ADMIN_PASSWORD="+adminPassword)...).Base
	})
	theirs := start(func(settings []string) string {
		for _, kv := range settings {
			name, value, _ := strings.Cut(kv, "=")
			t.Setenv(name, value)
		}
		return startReference(t, plc)
	})
	divergences, err := os.ReadFile("../docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	probes := append(matrix(), requests()...)
	same, wording := 0, 0
	for _, p := range probes {
		got, want := ours.answer(t, p), theirs.answer(t, p)
		gotWhat, gotText, _ := strings.Cut(got, "\x00")
		wantWhat, wantText, _ := strings.Cut(want, "\x00")
		if gotWhat == wantWhat {
			same++
			if gotText != wantText {
				wording++
				t.Logf("%s\n  ours:      %s\n  reference: %s", p, gotText, wantText)
			}
			continue
		}
		row := acceptedRow(p, gotWhat, wantWhat)
		if row == "" {
			t.Errorf("%s\n  ours:      %s %s\n  reference: %s %s", p, gotWhat, gotText, wantWhat, wantText)
			continue
		}
		used[row] = true
	}
	for row := range used {
		if !strings.Contains(string(divergences), row) {
			t.Errorf("docs/divergences.md does not say %q", row)
		}
	}
	for _, a := range accepted {
		if !used[a.row] {
			t.Errorf("no difference is accepted for %q any more", a.row)
		}
	}
	t.Logf("%d requests: %d with the same answer, %d of them in other words; %d differences of %d kinds are on purpose", len(probes), same, wording, len(probes)-same, len(used))
}

// acceptance is a difference on purpose: patterns of the probe and of both answers,
// and the row of docs/divergences.md.
type acceptance struct {
	probe, ours, theirs string
	row                 string
}

func acceptedRow(p probe, ours, theirs string) string {
	for _, a := range accepted {
		if regexp.MustCompile("^(?:"+a.probe+")").MatchString(p.String()) &&
			regexp.MustCompile("^(?:"+a.ours+")$").MatchString(ours) && regexp.MustCompile("^(?:"+a.theirs+")$").MatchString(theirs) {
			return a.row
		}
	}
	return ""
}
