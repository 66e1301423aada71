package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/identity"
	"nestbox/plc"
	"nestbox/plc/directory"
)

// person is an identity whose rotation key the test holds.
type person struct {
	did     syntax.DID
	genesis *didplc.RegularOp
	key     atcrypto.PrivateKey
}

func newPerson(t *testing.T, handle syntax.Handle) person {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	did, op, err := plc.Create(plc.Data{
		RotationKeys: []string{pub.DIDKey()}, SigningKey: pub.DIDKey(), Handle: handle, PDS: "https://pds.example.com",
	}, k)
	if err != nil {
		t.Fatal(err)
	}
	return person{did, op, k}
}

// listen serves a handler until the end of the test.
func listen(t *testing.T, h http.Handler) *identity.Directory {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &identity.Directory{URL: srv.URL, Client: srv.Client()}
}

// realDirectory is a PLC directory over HTTP.
func realDirectory(t *testing.T) *identity.Directory {
	t.Helper()
	d, err := directory.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return listen(t, d.Handler())
}

// tombstone ends an identity at a directory.
func tombstone(t *testing.T, d *identity.Directory, p person, prev didplc.Operation) {
	t.Helper()
	op := &didplc.TombstoneOp{Type: "plc_tombstone", Prev: prev.CID().String()}
	if err := op.Sign(p.key); err != nil {
		t.Fatal(err)
	}
	raw, err := (&didplc.OpEnum{Tombstone: op}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL+"/"+p.did.String(), strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("tombstone: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestDirectory asks a real directory through a whole life.
func TestDirectory(t *testing.T) {
	d, p, ctx := realDirectory(t), newPerson(t, "alice.test"), t.Context()
	if _, err := d.Document(ctx, p.did); !errors.Is(err, identity.ErrNotRegistered) {
		t.Errorf("document before: %v", err)
	}
	if _, err := d.Last(ctx, p.did); !errors.Is(err, identity.ErrNotRegistered) {
		t.Errorf("last before: %v", err)
	}
	if err := d.Submit(ctx, p.did, p.genesis); err != nil {
		t.Fatal(err)
	}
	want, err := plc.Document(p.did, didplc.OpEnum{Regular: p.genesis})
	if err != nil {
		t.Fatal(err)
	}
	if doc, err := d.Document(ctx, p.did); err != nil || string(doc) != string(want) {
		t.Errorf("document %s, %v\nwant %s", doc, err, want)
	}
	if last, err := d.Last(ctx, p.did); err != nil || last.Regular.CID() != p.genesis.CID() {
		t.Errorf("last %+v, %v", last, err)
	}
	if err := d.Submit(ctx, p.did, p.genesis); !errors.Is(err, identity.ErrRefused) || !strings.Contains(err.Error(), "not correctly ordered") {
		t.Errorf("the same again: %v", err)
	}
	tombstone(t, d, p, p.genesis)
	if _, err := d.Document(ctx, p.did); !errors.Is(err, identity.ErrNotRegistered) {
		t.Errorf("document of a tombstone: %v", err)
	}
	if last, err := d.Last(ctx, p.did); err != nil || last.Tombstone == nil {
		t.Errorf("last of a tombstone: %+v, %v", last, err)
	}
}

// TestLastStored: what the directory has taken is read, by whatever rules it did.
func TestLastStored(t *testing.T) {
	p := newPerson(t, "alice.test")
	op := p.genesis
	op.RotationKeys = append(op.RotationKeys, op.RotationKeys[0])
	op.AlsoKnownAs = append(op.AlsoKnownAs, "")
	if err := op.Sign(p.key); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	d := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }))
	last, err := d.Last(t.Context(), p.did)
	if err != nil || last.Regular == nil || last.Regular.CID() != op.CID() {
		t.Errorf("%+v, %v", last, err)
	}
}

// outcome is what the errors of Submit say of the operation.
func outcome(err error) string {
	switch {
	case err == nil:
		return "taken"
	case errors.Is(err, identity.ErrRefused):
		return "refused"
	case errors.Is(err, identity.ErrThrottled) && errors.Is(err, identity.ErrUnreached):
		return "throttled"
	case errors.Is(err, identity.ErrUnreached):
		return "unreached"
	default:
		return "unknown"
	}
}

// TestSubmitOutcome: a submission that the directory certainly refused has another
// error than one that it may have accepted.
func TestSubmitOutcome(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	redirect := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				status(200, "please sign in")(w, r)
				return
			}
			http.Redirect(w, r, "/login", code)
		})
	}
	for _, c := range []struct {
		name    string
		handler http.Handler
		want    string
		says    string
	}{
		{"200", status(200, "OK"), "taken", ""},
		{"400 with a message", status(400, `{"message":"Operations not correctly ordered"}`), "refused", "not correctly ordered"},
		{"404", status(404, ""), "refused", "404"},
		{"409", status(409, ""), "refused", "409"},
		{"408", status(408, ""), "unknown", "408"},
		{"429", status(429, "slowly"), "throttled", "429: slowly"},
		{"a huge refusal", status(400, strings.Repeat("a", 1<<20)), "refused", "400: aaa"},
		{"a refusal that is no text", status(400, "\xff\xfe"), "refused", "?"},
		{"500", status(500, ""), "unknown", "500"},
		{"502 of a gateway", status(502, "bad gateway"), "unknown", "bad gateway"},
		{"504 of a gateway", status(504, ""), "unknown", "504"},
		{"301 to a page", redirect(301), "refused", "301"},
		{"302 to a page", redirect(302), "refused", "302"},
		{"307 to a page", redirect(307), "refused", "307"},
		{"the connection breaks", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}), "unknown", "EOF"},
		{"no HTTP", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
				_ = c.Close()
			}
		}), "unknown", "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPerson(t, "alice.test")
			err := listen(t, c.handler).Submit(t.Context(), p.did, p.genesis)
			if got := outcome(err); got != c.want {
				t.Fatalf("%s (%v), want %s", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || len(err.Error()) > 500) {
				t.Errorf("%v, want %q and not too much of it", err, c.says)
			}
		})
	}
}

func TestSubmitUnreached(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, "alice.test")
	for _, url := range []string{nobody, "http://bad host/"} {
		d := &identity.Directory{URL: url, Client: &http.Client{Transport: &http.Transport{}}}
		if err := d.Submit(t.Context(), p.did, p.genesis); outcome(err) != "unreached" {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := d.Document(t.Context(), p.did); err == nil || errors.Is(err, identity.ErrNotRegistered) {
			t.Errorf("%s: document: %v", url, err)
		}
	}
}

// TestHanging: a directory that never answers ends with its caller's patience,
// and nobody knows what became of the operation.
func TestHanging(t *testing.T) {
	arrived := make(chan struct{}, 2)
	d := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	p := newPerson(t, "alice.test")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := d.Submit(ctx, p.did, p.genesis); outcome(err) != "unknown" || !errors.Is(err, context.Canceled) {
		t.Errorf("submit: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := d.Document(ctx, p.did); !errors.Is(err, context.Canceled) {
		t.Errorf("document: %v", err)
	}
}

// TestHostileAnswers: nothing but a document of the DID that was asked for is
// passed on.
func TestHostileAnswers(t *testing.T) {
	p := newPerson(t, "alice.test")
	own := fmt.Sprintf(`{"id":%q}`, p.did)
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string // a part of the error; empty for none
	}{
		{"a document", 200, own, ""},
		{"a document of another", 200, `{"id":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}`, "no document of"},
		{"no id", 200, `{}`, "no document of"},
		{"null", 200, `null`, "no document of"},
		{"a list", 200, `[` + own + `]`, "no document of"},
		{"HTML", 200, `<html>`, "no document of"},
		{"nothing", 200, ``, "no document of"},
		{"cut short", 200, own[:len(own)-1], "no document of"},
		{"huge", 200, `{"id":"` + p.did.String() + `","a":"` + strings.Repeat("a", 1<<20) + `"}`, "no document of"},
		{"404", 404, own, "not registered"},
		{"410", 410, own, "not registered"},
		{"500", 500, own, "status 500"},
		{"403", 403, own, "status 403"},
	} {
		d := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		doc, err := d.Document(t.Context(), p.did)
		switch {
		case c.want == "" && (err != nil || string(doc) != c.body):
			t.Errorf("%s: %s, %v", c.name, doc, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || doc != nil):
			t.Errorf("%s: %s, %v; want %q", c.name, doc, err, c.want)
		}
		if c.want != "" {
			if last, err := d.Last(t.Context(), p.did); err == nil {
				t.Errorf("%s: the last operation is %+v", c.name, last)
			}
		}
	}
	broken := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, own)
	}))
	if doc, err := broken.Document(t.Context(), p.did); err == nil {
		t.Errorf("an answer that breaks off: %s", doc)
	}
}
