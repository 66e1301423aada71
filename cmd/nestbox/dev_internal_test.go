package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

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
		if printFinding(&out, f); !strings.Contains(out.String(), want) || strings.Contains(out.String(), "nonce") {
			t.Errorf("%s, want %s", out.String(), want)
		}
	}
}

// ending is a writer that ends a context at the first text.
type ending struct {
	strings.Builder

	end context.CancelFunc
}

func (e *ending) Write(text []byte) (int, error) {
	defer e.end()
	return e.Builder.Write(text)
}

// TestWatchOfNothing: a watch that shows nothing says why.
func TestWatchOfNothing(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithTimeout(t.Context(), 10*time.Second) // a watch that says nothing does not end by itself
	defer end()
	plain := pdstest.Start(t, pdstest.Options{})
	watch := devWatchCmd{where: where{Data: plain.DataDir}}
	if err := watch.follow(ctx, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "without --dev") {
		t.Errorf("a server without --dev: %v", err)
	}
	around, _, err := developing(true, "")
	if err != nil {
		t.Fatal(err)
	}
	watch.Data = pdstest.Start(t, pdstest.Options{Around: around}).DataDir
	notes := &ending{end: end}
	_ = watch.follow(ctx, io.Discard, notes) // it is interrupted
	if !strings.Contains(notes.String(), "nestbox dev faults PRESET") {
		t.Errorf("said %q", notes.String())
	}
}
