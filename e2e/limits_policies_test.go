package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// counted is a request that both servers count.
type counted struct {
	pdstest.Request

	what string
	// says is the answer's limits, in one line.
	says string
}

// countedRequests are the endpoints that the reference limits, one that only counts
// among all, and those that are not counted.
func countedRequests(s pdstest.Session) []counted {
	own := pdstest.Bearer(s.AccessJwt)
	post := func(what, auth string, in any, says string) counted {
		return counted{what: what, says: says, Request: pdstest.Request{Method: http.MethodPost, NSID: "com.atproto." + what, Auth: auth, Body: in}}
	}
	get := func(what, says string) counted {
		return counted{what: what, says: says, Request: pdstest.Request{Method: http.MethodGet, NSID: "com.atproto." + what}}
	}
	record := func(more map[string]any) map[string]any {
		in := map[string]any{"repo": s.DID, "collection": "app.bsky.feed.like"}
		maps.Copy(in, more)
		return in
	}
	like := map[string]any{
		"$type": "app.bsky.feed.like", "createdAt": "2026-01-01T00:00:00Z",
		"subject": map[string]string{"uri": "at://" + s.DID + "/app.bsky.feed.post/1", "cid": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},
	}
	upload := post("repo.uploadBlob", own, "a picture", "999 of 1000;w=86400")
	upload.Header = http.Header{"Content-Type": {"image/png"}}
	return []counted{
		get("server.describeServer", "2998 of 3000;w=300"),
		post("server.createSession", "", map[string]string{"identifier": "alice.test", "password": "wrong"}, "29 of 30;w=300"),
		post("repo.createRecord", own, record(map[string]any{"record": like}), "2996 of 3000;w=300"),
		post("repo.putRecord", own, record(map[string]any{"rkey": "3jui7kd54zh2y", "record": like}), "2995 of 3000;w=300"),
		post("repo.deleteRecord", own, record(map[string]any{"rkey": "3jui7kd54zh2y"}), "2994 of 3000;w=300"),
		post("repo.applyWrites", own, map[string]any{"repo": s.DID, "writes": []any{
			map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.like", "value": like},
			map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.like", "value": like},
		}}, "2993 of 3000;w=300"),
		upload,
		post("identity.updateHandle", own, map[string]string{"handle": "alice2.test"}, "9 of 10;w=300"),
		post("server.requestPasswordReset", "", map[string]string{"email": "nobody@example.com"}, "14 of 15;w=3600"),
		post("server.resetPassword", "", map[string]string{"token": "ABCDE-FGHIJ", "password": "another-password"}, "49 of 50;w=300"),
		post("server.requestEmailConfirmation", own, nil, "4 of 5;w=3600"),
		post("server.requestEmailUpdate", own, nil, "4 of 5;w=3600"),
		post("server.requestAccountDelete", own, nil, "4 of 5;w=3600"),
		post("server.deleteAccount", "", map[string]string{"did": s.DID, "password": pdstest.Password, "token": "ABCDE-FGHIJ"}, "49 of 50;w=300"),
		post("server.createAccount", "", map[string]string{"handle": "bob.test", "email": "bob@example.com", "password": pdstest.Password}, "98 of 100;w=300"),
		get("sync.getRepo?did="+s.DID, "5999 of 6000;w=300"),
	}
}

// TestLimitPolicies: each endpoint that the reference limits is limited alike, and the
// answer names the limit that the client reaches first. TestReferenceRateLimits sends
// the reference the same requests.
func TestLimitPolicies(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	c := pdstest.Launch(t, "", append(box.Settings(), "PDS_RATE_LIMITS_ENABLED=true", "PDS_LOG_LEVEL=warn")...).Client
	for _, r := range countedRequests(c.SignUp(t, "alice")) {
		if got := limitsOf(t, c, r.Request); got != r.says {
			t.Errorf("%s: %s, want %s", r.what, got, r.says)
		}
	}
}

// limitsOf returns an answer's limits in one line.
func limitsOf(t *testing.T, c pdstest.Client, r pdstest.Request) string {
	t.Helper()
	a := c.Do(t, r)
	policy := a.Header.Get("RateLimit-Policy")
	if policy == "" {
		return fmt.Sprintf("%d, not counted", a.Status)
	}
	_, window, _ := strings.Cut(policy, ";w=")
	span, err := strconv.ParseInt(window, 10, 64)
	reset, resetErr := strconv.ParseInt(a.Header.Get("RateLimit-Reset"), 10, 64)
	if err != nil || resetErr != nil {
		t.Errorf("%s: %q, reset at %q", r.NSID, policy, a.Header.Get("RateLimit-Reset"))
	}
	// A window begins with its first request, a minute ago at most.
	if left := reset - time.Now().Unix(); left < span-60 || left > span+1 {
		t.Errorf("%s: %q, reset in %d s", r.NSID, policy, left)
	}
	if points := a.Header.Get("RateLimit-Limit"); !strings.HasPrefix(policy, points+";") {
		t.Errorf("%s: %q, of %s", r.NSID, policy, points)
	}
	return a.Header.Get("RateLimit-Remaining") + " of " + policy
}
