package main

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/control"
	"nestbox/faults"
	"nestbox/faults/findings"
	"nestbox/internal/pdstest"
)

// TestDevNeedsNoSettings: commands of nestbox dev need no setting, as serve --dev does not.
func TestDevNeedsNoSettings(t *testing.T) {
	t.Parallel()
	if c, err := (where{Data: t.TempDir()}).settings(nil); err != nil || !c.DevMode {
		t.Error(err)
	}
}

// TestPrintFinding: a report names the account and the session, and nothing that is in a token.
func TestPrintFinding(t *testing.T) {
	t.Parallel()
	one := findings.Finding{Kind: findings.Stale, Account: "did:plc:a", Session: "c-nonce", Times: 1}
	for want, f := range map[string]faults.Found{
		"  stale-token, once: the client presented a refresh token that is older than one it had used (alice.test, session 12)\n": {
			Finding: one, Handle: "alice.test", SessionNumber: 12,
		},
		"(did:plc:a, session 12)\n": {Finding: one, SessionNumber: 12},
		"  foreign-token, 3 times: the client sent a token of another server\n": {Finding: findings.Finding{Kind: findings.ForeignToken, Times: 3}},
	} {
		var out strings.Builder
		if printFinding(&out, f, timesOf(f.Times)); !strings.Contains(out.String(), want) || strings.Contains(out.String(), "nonce") {
			t.Errorf("%s, want %s", out.String(), want)
		}
	}
}

// ending is a writer that calls next after each text.
type ending struct {
	strings.Builder

	next func()
}

func (e *ending) Write(text []byte) (int, error) {
	defer e.next()
	return e.Builder.Write(text)
}

// TestWatchOfNothing: a watch that shows nothing says why, and so does one that falls silent.
func TestWatchOfNothing(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithTimeout(t.Context(), 10*time.Second) // a watch that says nothing does not end by itself
	defer end()
	plain := pdstest.Start(t, pdstest.Options{})
	watch := devWatchCmd{where: where{Data: plain.DataDir}}
	if err := watch.follow(ctx, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "without --dev") {
		t.Errorf("a server without --dev: %v", err)
	}
	around, err := developing(true, "", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p := pdstest.Start(t, pdstest.Options{Around: around})
	watch.Data = p.DataDir
	notes := &ending{next: end}
	_ = watch.follow(ctx, io.Discard, notes) // it is interrupted
	if !strings.Contains(notes.String(), "nestbox dev faults PRESET") {
		t.Errorf("said %q", notes.String())
	}

	for _, asJSON := range []bool{false, true} {
		watchOff(t, p, asJSON)
	}
}

// watchOff has a watch follow calls while faults are turned off, twice, and set again.
func watchOff(t *testing.T, p *pdstest.InProcess, asJSON bool) {
	t.Helper()
	ctx, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	set := func(args faults.SetArgs) {
		if _, err := control.Call(ctx, p.DataDir, faults.CmdFaults, args); err != nil {
			t.Error(err)
		}
	}
	set(faults.SetArgs{Plan: &faults.Plan{}})
	var calling sync.WaitGroup
	calling.Go(func() {
		for ctx.Err() == nil {
			//nolint:contextcheck // it has the test's
			_, _ = p.Try(t, pdstest.Request{NSID: "com.atproto.server.describeServer"})
		}
	})
	lines, notes := &ending{}, &ending{next: func() {}}
	said := func() int {
		return strings.Count(notes.String(), "turned off") + strings.Count(lines.String(), `"off":true`)
	}
	turned := false
	lines.next = func() {
		if turned {
			if said() > 0 {
				end()
			}
			return
		}
		turned = true
		set(faults.SetArgs{Off: true})
		set(faults.SetArgs{Off: true})
		set(faults.SetArgs{Plan: &faults.Plan{}})
	}
	watch := devWatchCmd{where: where{Data: p.DataDir}, JSON: asJSON}
	_ = watch.follow(ctx, lines, notes) // it is interrupted
	calling.Wait()
	if n := said(); n != 1 {
		t.Errorf("JSON %t: said it %d times", asJSON, n)
	}
}
