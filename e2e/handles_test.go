package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/dnstest"
	"nestbox/internal/pdstest"
)

// zone is the TXT records of a nameserver on loopback, by name.
type zone struct {
	mu      sync.Mutex
	records map[string][]string
}

func (z *zone) set(handle string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records["_atproto."+handle] = records
}

func (z *zone) txt(name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if records, ok := z.records[strings.ToLower(name)]; ok {
		return records, nil
	}
	return nil, dnstest.ErrNoName
}

// TestOwnDomain: an owner's domain becomes their handle if the DNS names their DID, and
// only then; the PLC directory names it, and the old name is free. An owner who loses
// the domain has no handle.
func TestOwnDomain(t *testing.T) {
	plc := startPLC(t)
	z := &zone{records: map[string][]string{}}
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc, "PDS_HANDLE_BACKUP_NAMESERVERS="+dnstest.Nameserver(t, z.txt))
	alice, bob := p.SignUp(t, "alice"), p.SignUp(t, "bob")
	const own = "alice.example.com"
	update := func(s pdstest.Session, handle string) pdstest.Answer {
		t.Helper()
		// The server asks the name servers of this machine, too; a silent one is a 503.
		for until := time.Now().Add(time.Minute); ; {
			a := p.Do(t, pdstest.Request{
				Method: http.MethodPost, NSID: "com.atproto.identity.updateHandle", Auth: pdstest.Bearer(s.AccessJwt), Body: map[string]string{"handle": handle},
			})
			if a.Status != http.StatusServiceUnavailable || time.Now().After(until) {
				return a
			}
		}
	}
	// The directory, as others see it.
	named := func() string {
		t.Helper()
		d := identity.BaseDirectory{PLCURL: plc}
		doc, err := d.ResolveDID(context.WithoutCancel(t.Context()), syntax.DID(alice.DID))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(doc.AlsoKnownAs, " ")
	}
	for what, records := range map[string][]string{
		"nothing":   nil,
		"another":   {"did=" + bob.DID},
		"both":      {"did=" + alice.DID, "did=" + bob.DID},
		"no DID":    {"did=alice", "v=spf1 -all"},
		"no prefix": {alice.DID},
	} {
		z.set(own, records...)
		if a := update(alice, own); a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "External handle did not resolve to DID") {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
		if got := named(); got != "at://alice.test" {
			t.Errorf("%s: the directory says %s", what, got)
		}
	}
	z.set(own, "v=spf1 -all", "did="+alice.DID)
	if a := update(bob, own); a.Status != http.StatusBadRequest {
		t.Errorf("bob takes it: %d %s", a.Status, a.Body)
	}
	if a := update(alice, "Alice.Example.COM"); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if got := named(); got != "at://"+own {
		t.Errorf("the directory says %s", got)
	}
	if s := p.SignIn(t, own, pdstest.Password); s.DID != alice.DID || s.Handle != own {
		t.Errorf("%+v", s)
	}
	for nsid, want := range map[string]string{
		"com.atproto.identity.resolveHandle?handle=" + own:             alice.DID,
		"com.atproto.identity.resolveIdentity?identifier=" + alice.DID: own,
		"com.atproto.repo.describeRepo?repo=" + own:                    `"handleIsCorrect":true`,
	} {
		if a := p.Do(t, pdstest.Request{Method: http.MethodGet, NSID: nsid}); a.Status != http.StatusOK || !strings.Contains(string(a.Body), want) {
			t.Errorf("%s: %d %s", nsid, a.Status, a.Body)
		}
	}
	p.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.identity.resolveHandle?handle=alice.test"}).
		WantError(t, http.StatusBadRequest, "HandleNotFound", "Unable to resolve handle")
	if s := p.SignUp(t, "alice2"); s.DID == alice.DID {
		t.Error("another account has the same DID")
	}
	if a := update(bob, "alice.test"); a.Status != http.StatusOK {
		t.Errorf("the old name is not free: %d %s", a.Status, a.Body)
	}

	// An owner who loses the domain is shown without a handle, and may return to a name
	// here.
	z.set(own, "did="+bob.DID)
	// An answer of the last seconds is believed, so the change may show only then.
	refresh := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.identity.refreshIdentity", Auth: pdstest.Bearer(bob.AccessJwt), Body: map[string]string{"identifier": alice.DID}}
	for until := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		a := p.Do(t, refresh)
		if a.Status == http.StatusOK && strings.Contains(string(a.Body), `"handle":"handle.invalid"`) {
			break
		}
		if a.Status != http.StatusOK || time.Now().After(until) {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	if a := update(alice, "alice3.test"); a.Status != http.StatusOK {
		t.Errorf("back: %d %s", a.Status, a.Body)
	}
	if got := named(); got != "at://alice3.test" {
		t.Errorf("the directory says %s", got)
	}
}
