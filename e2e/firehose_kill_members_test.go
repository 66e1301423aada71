package e2e

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/pdstest"
)

// role is what happens to an account besides its writes.
type role int

const (
	onlyWrites  role = iota
	flickers         // is deactivated and activated all the time, while it writes
	isTakenDown      // is taken down and restored, and signs in again
	isDeleted        // in the end
)

// killedMember is an account whose server is killed.
type killedMember struct {
	pdstest.Session

	role    role
	writers []*writer
	// status is the one that was answered last, asked one whose answer did not
	// come; empty: active.
	status string
	asked  *string
	due    bool // to be deleted
}

// work begins what the account does until the server is gone.
func (m *killedMember) work(k *killing, working *sync.WaitGroup) {
	if m.role == isTakenDown {
		working.Go(func() { m.comeAndGo(k) })
		return
	}
	for _, w := range m.writers {
		working.Go(func() { m.write(k, w) })
	}
	switch {
	case m.role == flickers:
		working.Go(func() {
			for m.change(k, "deactivated") && m.change(k, "") {
			}
		})
	case m.due:
		working.Go(func() { m.change(k, "deleted") })
	}
}

// write goes on until the server is gone.
func (m *killedMember) write(k *killing, w *writer) {
	for {
		var no *refusal
		err := w.step(k.t)
		switch {
		case err == nil:
		case !errors.As(err, &no): // no answer
			return
		case m.role == isDeleted && m.due:
			return
		case m.role != flickers || !strings.Contains(no.body, "AccountDeactivated"):
			k.t.Errorf("%s: %v", m.DID, err)
			return
		}
	}
}

// comeAndGo writes, is taken down, restored, and signs in again.
func (m *killedMember) comeAndGo(k *killing) {
	for {
		for _, w := range m.writers {
			if err := w.step(k.t); err != nil {
				if no := (*refusal)(nil); errors.As(err, &no) {
					k.t.Errorf("%s: %v", m.DID, err)
				}
				return
			}
		}
		if !m.change(k, "takendown") || !m.change(k, "") || !m.signIn(k) {
			return
		}
	}
}

// signIn reports whether it was answered.
func (m *killedMember) signIn(k *killing) bool {
	a, err := k.server.Try(k.t, pdstest.Request{NSID: createSession, Body: map[string]string{"identifier": m.DID, "password": pdstest.Password}})
	if err != nil {
		return false
	}
	if a.Status != http.StatusOK {
		k.t.Errorf("sign in: %d %s", a.Status, a.Body)
		return false
	}
	a.Decode(k.t, &m.Session)
	for _, w := range m.writers {
		w.token = m.AccessJwt
	}
	return true
}

// change changes the account's status and reports whether it was answered.
func (m *killedMember) change(k *killing, to string) bool {
	r := pdstest.Request{Method: http.MethodPost, Auth: pdstest.Bearer(m.AccessJwt)}
	takedown := func(applied bool) {
		r.NSID, r.Auth, r.Body = updateStatus, adminAuth(), map[string]any{
			"subject":  map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": m.DID},
			"takedown": map[string]any{"applied": applied},
		}
	}
	switch {
	case to == "deactivated":
		r.NSID, r.Body = "com.atproto.server.deactivateAccount", map[string]string{}
	case to == "takendown":
		takedown(true)
	case to == "deleted":
		r.NSID, r.Auth, r.Body = "com.atproto.admin.deleteAccount", adminAuth(), map[string]string{"did": m.DID}
	case m.status == "takendown":
		takedown(false)
	default:
		r.NSID = "com.atproto.server.activateAccount"
	}
	m.asked = &to
	a, err := k.server.Try(k.t, r)
	if err != nil {
		return false
	}
	if a.Status != http.StatusOK {
		k.t.Errorf("%s of %s: %d %s", r.NSID, m.DID, a.Status, a.Body)
		return false
	}
	m.status, m.asked = to, nil
	return true
}

// settle compares an account with the answers that it got, after a restart.
// Afterwards the account is active, unless it was deleted.
func (m *killedMember) settle(k *killing) {
	k.t.Helper()
	now := statusOf(k.t, k.server.Client, m.DID)
	if now != m.status && (m.asked == nil || now != *m.asked) {
		k.t.Errorf("%s is %q; it was told %q, and asked for %v", m.DID, now, m.status, m.asked)
	}
	m.status, m.asked = now, nil
	if now == "deleted" {
		return
	}
	if now != "" && !m.change(k, "") || m.role == isTakenDown && !m.signIn(k) {
		k.t.Errorf("%s does not come back", m.DID)
		return
	}
	checkExport(k.t, k.server.Client, k.judge.judge, m.writers...)
}

// statusOf is an account's status as the network sees it; empty: active.
func statusOf(t *testing.T, c pdstest.Client, did string) string {
	t.Helper()
	a := c.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepoStatus?did=" + did})
	if a.Status == http.StatusBadRequest && strings.Contains(string(a.Body), "RepoNotFound") {
		return "deleted"
	}
	var out struct {
		Active bool
		Status string
	}
	a.Decode(t, &out)
	if a.Status != http.StatusOK || out.Active != (out.Status == "") {
		t.Errorf("status of %s: %d %s", did, a.Status, a.Body)
	}
	return out.Status
}
