package main

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestAppView shows that what the upstream answers is as large as goals say, compressed
// too.
func TestAppView(t *testing.T) {
	all := newAppView()
	for _, c := range []struct {
		call          string
		plain, packed int
	}{{plainCall, usualSize, 7_700}, {timelineCall, usualSize, 7_700}, {largeCall, largeSize, 0}} {
		body := all[nsidOf(c.call)]
		for what, sizes := range map[string][2]int{"plain": {len(body.plain), c.plain}, "gzip": {len(body.gzipped), c.packed}} {
			if got, want := sizes[0], sizes[1]; got < want*95/100 || got > want*105/100 {
				t.Errorf("%s, %s: %d bytes, want about %d", nsidOf(c.call), what, got, want)
			}
		}
	}
}

func TestPrefersGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "identity": false, "gzip": true, "gzip, deflate, br": true, "gzip;q=0": false,
		"identity;q=1,gzip;q=0.3,br;q=0.1": false, "gzip;q=1, identity;q=0.5": true,
	} {
		if got := prefersGzip(accept); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}

// TestBareProxy shows that the bare proxy does its part: a call with its token arrives with
// a service token, and one without does not arrive.
func TestBareProxy(t *testing.T) {
	var arrived []string
	all := newAppView()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived = append(arrived, r.Header.Get("Authorization"))
		upstreamHandler(all).ServeHTTP(w, r)
	}))
	t.Cleanup(upstream.Close)
	handler, err := bareHandler(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	s := &server{name: bareProxy, host: web.Listener.Addr().String(), pid: os.Getpid()}
	users, err := signUp(s, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proxyRows() {
		if !offers(s, p.op) {
			continue
		}
		if _, err := (load{server: s, op: operation{p.op.name, p.prove}, workers: 1, accounts: users, requests: 2}).run(); err != nil {
			t.Errorf("%s: %v", p.op.name, err)
		}
	}
	if len(arrived) != 4 {
		t.Fatalf("%d calls arrived, want 4: two plain, two compressed", len(arrived))
	}
	_, rest, _ := strings.Cut(arrived[0], ".")
	payload, _, _ := strings.Cut(rest, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	says := [3]string{field(claims, "iss"), field(claims, "aud"), field(claims, "lxm")}
	if err != nil || says != [3]string{users[0].did, appViewDID, nsidOf(plainCall)} {
		t.Errorf("a call arrived with the claims %s, %v", claims, err)
	}
	own := users[0].access
	for what, token := range map[string]string{
		"none": "", "one with another signature": own[:strings.LastIndexByte(own, '.')+1] + "AAAA", "a service token": arrived[0],
	} {
		_, err := (load{server: s, workers: 1, requests: 1, op: operation{what, func(c *conn, _ *user) error {
			_, err := c.call("GET", plainCall, token, nil)
			return err
		}}}).run()
		if refused, ok := errors.AsType[*answerError](err); !ok || refused.status != http.StatusUnauthorized {
			t.Errorf("a call with a token (%s): %v", what, err)
		}
	}
	if len(arrived) != 4 {
		t.Error("a call that was refused arrived")
	}
}

// TestHanging shows that the service that hangs counts what hangs, until it is given up.
func TestHanging(t *testing.T) {
	silent, err := newHanging()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.close() })
	release, err := hang(&server{host: strings.TrimPrefix(silent.url, "http://")}, []*user{{}}, silent)
	if err != nil || silent.calls.Load() != hangAtOnce {
		t.Fatalf("%d calls hang, %v", silent.calls.Load(), err)
	}
	if err := release(); err != nil || silent.calls.Load() != 0 {
		t.Errorf("%d calls hang after all were given up, %v", silent.calls.Load(), err)
	}
}

// TestProxyTables shows that a goal that was missed is seen, each alone.
func TestProxyTables(t *testing.T) {
	tables := func(change func(ours *sample, p *passing, with *sample)) string {
		ours, p, with := sample{CPU: 120, Rate: 4000}, passing{Idle: 40, Peak: 64, Samples: []sample{{CPU: 5000}}}, sample{P99: 12}
		change(&ours, &p, &with)
		row := proxyRows()[0]
		cellOf := func(server string, s sample) cell {
			return cell{Server: server, Op: row.op.name, Workers: row.workers, Accounts: row.accounts, Samples: []sample{s}}
		}
		f := &figures{
			Cells:   []cell{cellOf("Nestbox", ours), cellOf("reference", sample{CPU: 720, Rate: 1000}), cellOf(bareProxy, sample{CPU: 100})},
			Passing: map[string]passing{"Nestbox": p},
			Dead:    []dead{{Server: "Nestbox", Op: refresh.name, Without: []sample{{P99: 10}}, With: []sample{with}}},
		}
		var w strings.Builder
		f.proxyTables(&w)
		return w.String()
	}
	for name, c := range map[string]struct {
		change func(ours *sample, p *passing, with *sample)
		missed int
	}{
		"all reached":              {func(*sample, *passing, *sample) {}, 0},
		"dearer than the goal":     {func(ours *sample, _ *passing, _ *sample) { ours.CPU = 121 }, 1},
		"dearer than a bare proxy": {func(ours *sample, _ *passing, _ *sample) { ours.CPU = 141 }, 1},
		"too slow":                 {func(ours *sample, _ *passing, _ *sample) { ours.Rate = 3999 }, 1},
		"too much memory":          {func(_ *sample, p *passing, _ *sample) { p.Peak = 64.1 }, 1},
		"large answers too dear":   {func(_ *sample, p *passing, _ *sample) { p.Samples[0].CPU = 5001 }, 1},
		"others wait":              {func(_ *sample, _ *passing, with *sample) { with.P99 = 12.1 }, 1},
	} {
		if got := tables(c.change); strings.Count(got, yes(false)) != c.missed {
			t.Errorf("%s: want %d missed:\n%s", name, c.missed, got)
		}
	}
}

// TestProve shows that a server's answers are seen through: Nestbox passes, and fails where
// it shows a post that it should not, or none.
func TestProve(t *testing.T) {
	upstream := httptest.NewServer(upstreamHandler(newAppView()))
	t.Cleanup(upstream.Close)
	s, err := nestbox(pdstest.Binary(t), t.TempDir(), "PDS_BSKY_APP_VIEW_URL="+upstream.URL, "PDS_BSKY_APP_VIEW_DID="+appViewDID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	users, err := signUp(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	once := func(op operation) error {
		_, err := load{server: s, op: op, workers: 1, accounts: users, requests: 1}.run()
		return err
	}
	for range 2 {
		if err := once(createRecord); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range proxyRows() {
		if err := once(operation{p.op.name, p.prove}); err != nil {
			t.Errorf("%s: %v", p.op.name, err)
		}
		p.shows = !p.shows
		if err := once(operation{p.op.name, p.prove}); err == nil {
			t.Errorf("%s: a wrong answer passed", p.op.name)
		}
	}
}
