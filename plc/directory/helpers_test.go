package directory_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
	"nestbox/plc/directory"
)

// clock is a time that the test sets; each reading moves it by a millisecond.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Millisecond)
	return c.at
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// open opens a directory until the end of the test.
func open(t *testing.T, folder string, c *clock) *directory.Directory {
	t.Helper()
	d, err := directory.Open(folder, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func newKey(t testing.TB) (atcrypto.PrivateKey, string) {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return k, pub.DIDKey()
}

// identity is a DID with a strong and a weak rotation key.
type identity struct {
	did          syntax.DID
	genesis      didplc.OpEnum
	strong, weak atcrypto.PrivateKey
}

func newIdentity(t testing.TB, handle syntax.Handle) identity {
	t.Helper()
	strong, strongDID := newKey(t)
	weak, weakDID := newKey(t)
	did, op, err := plc.Create(plc.Data{
		RotationKeys: []string{strongDID, weakDID}, SigningKey: weakDID, Handle: handle, PDS: "https://pds.example.com",
	}, weak)
	if err != nil {
		t.Fatal(err)
	}
	return identity{did, didplc.OpEnum{Regular: op}, strong, weak}
}

// move returns the operation behind prev that points to another host.
func move(t testing.TB, prev didplc.OpEnum, pds string, by atcrypto.PrivateKey) didplc.OpEnum {
	t.Helper()
	op, err := plc.Amend(prev, plc.Data{PDS: pds}, by)
	if err != nil {
		t.Fatal(err)
	}
	return didplc.OpEnum{Regular: op}
}

func tombstone(t testing.TB, prev didplc.OpEnum, by atcrypto.PrivateKey) didplc.OpEnum {
	t.Helper()
	op := &didplc.TombstoneOp{Type: "plc_tombstone", Prev: cidOf(prev)}
	if err := op.Sign(by); err != nil {
		t.Fatal(err)
	}
	return didplc.OpEnum{Tombstone: op}
}

func cidOf(op didplc.OpEnum) string { return op.AsOperation().CID().String() }

func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// site is a directory's HTTP interface.
type site struct {
	url string
	t   testing.TB
}

func serve(t *testing.T, d *directory.Directory) site {
	t.Helper()
	srv := httptest.NewServer(d.Handler())
	t.Cleanup(srv.Close)
	return site{srv.URL, t}
}

// answer is a response, read whole.
type answer struct {
	status int
	kind   string // Content-Type
	body   string
}

func (s site) do(method, path, body string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)}
}

func (s site) get(path string) answer { s.t.Helper(); return s.do(http.MethodGet, path, "") }

func (s site) post(did syntax.DID, op didplc.OpEnum) answer {
	s.t.Helper()
	return s.do(http.MethodPost, "/"+did.String(), encode(s.t, &op))
}
