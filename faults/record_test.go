package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/control"
	"nestbox/faults"
	"nestbox/faults/findings"
	"nestbox/internal/pdstest"
)

// as is a client that names itself.
func as(name string) http.Header { return http.Header{"User-Agent": {name}} }

// report is what the command says, by client: the kinds of findings and how often.
func (w *world) report(since time.Duration) (faults.Report, map[string]map[findings.Kind]int) {
	w.t.Helper()
	r, err := control.Call(w.t.Context(), w.DataDir, faults.CmdReport, faults.ReportArgs{Within: since})
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]map[findings.Kind]int{}
	for _, c := range r.Clients {
		found[c.UserAgent] = map[findings.Kind]int{}
		for _, f := range c.Findings {
			found[c.UserAgent][f.Kind] += f.Times
		}
	}
	return r, found
}

// TestReport: what clients do on the wire is found, each mistake by its name, and by client.
func TestReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if r, _ := w.report(0); r.Recording || r.Calls != 0 {
		t.Errorf("before anything was set: %+v", r)
	}
	call := func(name, nsid, token string, body any) (a pdstest.Answer, err error) {
		w.pass(2 * time.Second)
		r := pdstest.Request{NSID: nsid, Header: as(name), Body: body}
		if token != "" {
			r.Auth = pdstest.Bearer(token)
		}
		if body == nil && (strings.HasSuffix(nsid, "refreshSession") || strings.HasSuffix(nsid, "deleteSession")) {
			r.Method = http.MethodPost
		}
		return w.Try(t, r)
	}
	const server = "com.atproto.server."
	in := func(name string) (s pdstest.Session) {
		t.Helper()
		a, err := call(name, server+"createSession", "", map[string]string{"identifier": "alice.test", "password": pdstest.Password})
		if err != nil {
			t.Fatal(err)
		}
		a.Decode(t, &s)
		return s
	}
	refresh := func(name, token string) (s pdstest.Session) {
		t.Helper()
		a, err := call(name, server+"refreshSession", token, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.Decode(t, &s)
		return s
	}
	must := func(_ pdstest.Answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.set()
	w.SignUp(t, "alice")
	early := in("early/1")
	refresh("early/1", early.RefreshJwt)
	w.set(faults.Fault{Kind: faults.AccessLife, For: faults.Duration(20 * time.Second)}, faults.Fault{
		Kind: faults.LostAfter, Methods: []string{"com.atproto.repo.createRecord"},
	}, faults.Fault{
		Kind: faults.Status, Status: 503, RetryAfter: faults.Duration(5 * time.Second), Methods: []string{"com.atproto.server.describeServer"},
	})

	good := in("good/1")
	must(call("good/1", server+"getSession", good.AccessJwt, nil))
	w.pass(20 * time.Second)
	must(call("good/1", server+"getSession", good.AccessJwt, nil)) // it has expired
	good = refresh("good/1", good.RefreshJwt)
	must(call("good/1", server+"getSession", good.AccessJwt, nil))
	must(call("good/1", server+"deleteSession", good.RefreshJwt, nil))

	soon := in("soon/1") // its tokens live for seconds
	refresh("soon/1", soon.RefreshJwt)

	stale := in("stale/1")
	w.pass(20 * time.Second)
	one := refresh("stale/1", stale.RefreshJwt)
	w.pass(20 * time.Second)
	refresh("stale/1", one.RefreshJwt)
	w.pass(20 * time.Second)
	refresh("stale/1", stale.RefreshJwt)

	wrong := in("wrong/1")
	must(call("wrong/1", server+"refreshSession", wrong.AccessJwt, nil))
	must(call("wrong/1", server+"getSession", wrong.RefreshJwt, nil))

	post := in("post/1")
	for _, created := range []string{"2026-11-30T12:00:00Z", "2026-11-30T12:00:01Z"} {
		record := map[string]any{"repo": post.DID, "collection": "app.bsky.feed.post", "record": map[string]any{
			"$type": "app.bsky.feed.post", "text": "twice", "createdAt": created,
		}}
		if _, err := call("post/1", "com.atproto.repo.createRecord", post.AccessJwt, record); err == nil {
			t.Error("no answer was lost")
		}
	}
	hasty := pdstest.Client{Base: w.Base, HTTP: &http.Client{Transport: &http.Transport{}}} // it keeps its connection
	defer hasty.HTTP.CloseIdleConnections()
	for range 2 {
		w.pass(2 * time.Second)
		hasty.Do(t, pdstest.Request{NSID: server + "describeServer", Header: as("hasty/1")})
		must(call("tabs/1", server+"describeServer", "", nil)) // two that do not know of each other
	}

	moved := in("moved/1")
	must(call("link/1", "com.atproto.repo.describeRepo?repo=alice.test", "", nil))
	if err := w.Run(t.Context(), "account.handle", map[string]string{"account": moved.DID, "handle": "alice-2.test"}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	must(call("moved/1", server+"getSession", moved.AccessJwt, nil)) // it learns of it
	must(call("moved/1", "com.atproto.repo.describeRepo?repo=alice.test", moved.AccessJwt, nil))
	must(call("link/1", "com.atproto.repo.describeRepo?repo=alice.test", "", nil)) // a link that somebody kept

	other := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_SERVICE_DID=did:web:other.example.com"}})
	must(call("foreign/1", server+"getSession", other.SignUp(t, "bob").AccessJwt, nil))
	twin := pdstest.Start(t, pdstest.Options{}).SignUp(t, "carol") // on the same machine, with the same name
	must(call("twin/1", server+"getSession", twin.AccessJwt, nil))
	must(call("twin/1", server+"refreshSession", twin.RefreshJwt, nil))

	r, got := w.report(0)
	want := map[string]map[findings.Kind]int{
		"good/1": {}, "early/1": {findings.Early: 1}, "stale/1": {findings.Stale: 1}, "wrong/1": {findings.WrongToken: 2},
		"post/1": {findings.RepeatedPost: 1}, "hasty/1": {findings.Impatient: 1}, "moved/1": {findings.MovedAddress: 1},
		"foreign/1": {findings.ForeignToken: 1}, "twin/1": {findings.ForeignToken: 2}, "tabs/1": {}, "soon/1": {}, "link/1": {}, "Go-http-client/1.1": {},
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !maps.Equal(got[name], want[name]) {
			t.Errorf("%s: %v, want %v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) || !r.Recording || r.To.Before(r.From) {
		t.Errorf("%d clients, %+v", len(got), r)
	}
	for _, c := range r.Clients {
		for _, f := range c.Findings {
			known := !slices.Contains([]string{"hasty/1", "foreign/1", "twin/1"}, c.UserAgent) // nobody's call, and other servers' accounts
			if isNamed := f.Handle == "alice-2.test"; isNamed != known {
				t.Errorf("%s: %s of %q", c.UserAgent, f.Kind, f.Handle)
			}
			if f.Session != "" && f.SessionNumber == 0 {
				t.Errorf("%s: %s of session %q has no number", c.UserAgent, f.Kind, f.Session)
			}
		}
		if c.UserAgent == "good/1" && (c.Calls != 6 || c.Refreshes != 1 || c.Sessions != 1) {
			t.Errorf("%+v", c)
		}
	}
	if r, _ := w.report(time.Second); r.Calls >= 5 {
		t.Errorf("%d calls in the last second", r.Calls)
	}
	w.off()
	if r, _ := w.report(0); r.Recording || r.Calls == 0 {
		t.Errorf("after all was turned off: %+v", r)
	}
}

// TestWatch: calls and findings are shown as they come, to the end of the server at most.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- control.CallFile(ctx, w.DataDir, faults.WatchCommand, struct{}{}, strings.NewReader(""), to)
	}()
	lines := json.NewDecoder(from)
	next := func() (line faults.WatchLine) {
		t.Helper()
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
		return line
	}
	// It may begin to watch a moment later than the first calls come.
	s := w.SignUp(t, "alice")
	calling, stop := context.WithCancel(t.Context())
	called := make(chan struct{})
	go func() {
		defer close(called)
		for calling.Err() == nil {
			w.pass(2 * time.Second)
			//nolint:contextcheck // it has the test's
			_, _ = w.Try(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.refreshSession", Auth: pdstest.Bearer(s.RefreshJwt)})
		}
	}()
	first := next()
	if c := first.Call; c == nil || c.Method == "" || c.Status != http.StatusOK {
		t.Errorf("%+v", first)
	}
	for {
		if line := next(); line.Finding != nil {
			break
		}
	}
	stop()
	go func() { _, _ = io.Copy(io.Discard, from) }() // what is still on its way
	<-called
	w.Stop() // does not wait for those who watch
	if err := <-ended; err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("watch ended: %v", err)
	}
}
