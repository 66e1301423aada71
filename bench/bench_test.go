package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/request"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// TestMain leaves this package's tests out if there is no /proc to measure with.
func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		fmt.Println("the benchmarks measure on Linux only: not tested here")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTypical(t *testing.T) {
	for name, c := range map[string]struct {
		samples []sample
		want    float64
	}{
		"the median":         {[]sample{{CPU: 3}, {CPU: 1}, {CPU: 2}}, 2},
		"of the quiet ones":  {[]sample{{CPU: 9, Others: 1}, {CPU: 1}, {CPU: 8, Others: 1}}, 1},
		"of all, if it must": {[]sample{{CPU: 9, Others: 1}, {CPU: 7, Others: 1}, {CPU: 8, Others: 1}}, 8},
	} {
		if got := typical(c.samples); got.CPU != c.want {
			t.Errorf("%s: got %v, want %v", name, got.CPU, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	row := target{cpu: 1.0 / 15, rate: 8}
	ref := sample{CPU: 1500, Rate: 100}
	for name, c := range map[string]struct {
		ours sample
		want bool
	}{
		"both reached": {sample{CPU: 100, Rate: 800}, true},
		"too dear":     {sample{CPU: 101, Rate: 800}, false},
		"too slow":     {sample{CPU: 100, Rate: 799}, false},
	} {
		if got := !strings.Contains(row.verdict(ref, c.ours, true), "no"); got != c.want {
			t.Errorf("%s: reached %t, want %t", name, got, c.want)
		}
	}
}

func TestReplaceTables(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	place := func(group, tables string) string { return beginTables(group) + tables + endTables(group) }
	write := func(text string) {
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + place("sync", "old\n") + "between\n" + place("records", "stays\n") + "after\n")
	if err := replaceTables(page, map[string]string{"sync": "new\n"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if want := "before\n" + place("sync", "\nnew\n\n") + "between\n" + place("records", "stays\n") + "after\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if err := replaceTables(page, map[string]string{"firehose": "new\n"}); err == nil {
		t.Error("a page without a place was written to")
	}
}

// TestPage shows that docs/performance.md has a place for every group.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groupNames() {
		_, rest, ok := strings.Cut(string(text), beginTables(g))
		if !ok || !strings.Contains(rest, endTables(g)) {
			t.Errorf("there is no place for %s", g)
		}
	}
}

func TestChosen(t *testing.T) {
	for only, want := range map[string]string{
		"": "sessions records sync firehose accounts proxy oauth web takeover backup metrics", "sync,records": "sync records", "firehose": "firehose", "sessions,other": "",
	} {
		groups, err := (&bench{only: only}).chosen()
		var names []string
		for _, g := range groups {
			names = append(names, g.name)
		}
		if got := strings.Join(names, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%q chooses %q, %v; want %q", only, got, err, want)
		}
	}
}

// TestStored shows that the data filled in by SQL is as a server stores it: a
// server refreshes each session, and the data passes every check afterwards.
func TestStored(t *testing.T) {
	for name, fill := range map[string]func(binary, dir string, sessions int64) (stored, error){"passwords": fill, "grants": fillGrants} {
		t.Run(name, func(t *testing.T) {
			const sessions = 100
			s, err := fill(pdstest.Binary(t), t.TempDir(), sessions)
			if err != nil {
				t.Fatal(err)
			}
			srv, err := nestbox(pdstest.Binary(t), s.dir)
			if err != nil {
				t.Fatal(err)
			}
			op, err := s.refresh(srv)
			if err != nil {
				t.Fatal(errors.Join(err, srv.stop()))
			}
			users := s.users(sessions)
			got, err := load{server: srv, op: op, workers: 4, accounts: users, requests: 3 * sessions}.run()
			if err != nil || got.Requests != 3*sessions {
				t.Errorf("%d refreshes, %v; want %d", got.Requests, err, 3*sessions)
			}
			if err := srv.stop(); err != nil {
				t.Error(err)
			}
			seen := map[int64]bool{}
			for _, u := range users {
				jti, err := tokenID(u.refresh)
				if err != nil || !strings.HasSuffix(jti, ".43") {
					t.Errorf("session %d is at %q after three refreshes of generation 40, %v", u.id, jti, err)
				}
				seen[u.id] = true
			}
			if len(seen) != sessions {
				t.Errorf("%d different sessions, want %d", len(seen), sessions)
			}
			// The rows; these accounts' keys do not open, as expected.
			faults, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: filepath.Join(s.dir, "nestbox.sqlite")})
			if err != nil || len(faults) > 0 {
				t.Errorf("%q, %v", faults, err)
			}
		})
	}
}

// TestFloor shows that the floor answers as a server does.
func TestFloor(t *testing.T) {
	dir := t.TempDir()
	methods, err := floorMethods(dir)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer((&request.Front{Log: slog.New(slog.DiscardHandler), Now: time.Now}).Handler(&xrpc.Server{Methods: methods, MaxBody: xrpc.DefaultMaxBody}))
	t.Cleanup(web.Close)
	s := &server{name: "floor", host: web.Listener.Addr().String(), pid: os.Getpid()}
	users, err := signUp(s, 2)
	if err != nil {
		t.Fatal(err)
	}
	first := *users[0]
	for _, op := range []operation{refresh, replay, getSession} {
		if _, err := (load{server: s, op: op, workers: 2, accounts: users, requests: 20}).run(); err != nil {
			t.Error(err)
		}
	}
	// Ten refreshes and a replay later, the first token leads to the head.
	_, err = load{server: s, op: refresh, workers: 1, accounts: []*user{&first}, requests: 1}.run()
	if jti, jerr := tokenID(first.refresh); err != nil || jerr != nil || !strings.HasSuffix(jti, ".11") {
		t.Errorf("the first token leads to %q, %v, %v", jti, err, jerr)
	}
}
