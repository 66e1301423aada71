package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/blob"
	"nestbox/firehose/event"
	"nestbox/internal/pdstest"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

const (
	unknownDID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	blockCID   = "bafyreieopzbeycy356zrprfbrgiyb7hsrimxyeii3lqvmjhhlsitd6thae"
)

func TestGetBlob(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{})
	const content = "<script>alert(1)</script>"
	r := h.put(t, strings.NewReader(content), "text/html")
	id := r.Ref.Link
	for _, who := range []string{"", pdstest.Bearer(h.AccessJwt), "Basic YWRtaW46YWRtaW4="} { // until a record refers to it, nobody sees it
		h.get(t, id, "Authorization", who).WantError(t, http.StatusBadRequest, "BlobNotFound", "Blob not found")
	}
	h.mustUse(t, "1", r)

	a := h.get(t, id)
	if a.Status != http.StatusOK || string(a.Body) != content {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	for name, want := range map[string]string{
		"Content-Type":                "text/html",
		"Content-Length":              strconv.Itoa(len(content)),
		"Content-Disposition":         `attachment; filename="` + id + `"`,
		"Content-Security-Policy":     "default-src 'none'; sandbox",
		"X-Content-Type-Options":      "nosniff",
		"Etag":                        `"` + id + `"`,
		"Accept-Ranges":               "bytes",
		"Cache-Control":               "public, max-age=300",
		"Vary":                        "Authorization",
		"Access-Control-Allow-Origin": "*",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if a := h.get(t, id, "Authorization", pdstest.Bearer(h.AccessJwt)); a.Status != http.StatusOK || a.Header.Get("Cache-Control") != "private" {
		t.Errorf("for the owner: %d %v", a.Status, a.Header)
	}
	head := h.Do(t, pdstest.Request{Method: http.MethodHead, NSID: "com.atproto.sync.getBlob?did=" + h.DID + "&cid=" + id})
	if head.Status != http.StatusOK || head.Header.Get("Content-Length") != strconv.Itoa(len(content)) || head.Header.Get("Etag") != `"`+id+`"` || len(head.Body) > 0 {
		t.Errorf("HEAD: %d %v %q", head.Status, head.Header, head.Body)
	}
	for _, c := range []struct {
		name, value string
		status      int
		body        string
	}{
		{"If-None-Match", `"` + id + `"`, http.StatusNotModified, ""},
		{"If-None-Match", `"other"`, http.StatusOK, content},
		{"Range", "bytes=1-6", http.StatusPartialContent, "script"},
		{"Range", "bytes=-9", http.StatusPartialContent, "</script>"},
		{"Range", "bytes=-0", http.StatusRequestedRangeNotSatisfiable, "the range has no bytes\n"},
		{"Range", "bytes=100-", http.StatusRequestedRangeNotSatisfiable, "*"},
		{"Range", "Bytes=1-6", http.StatusPartialContent, "script"},
		{"Range", "items=0-1", http.StatusOK, content},
		{"Range", "nonsense", http.StatusOK, content},
	} {
		a := h.get(t, id, c.name, c.value)
		if a.Status != c.status || c.body != "*" && string(a.Body) != c.body || a.Status == http.StatusPartialContent && a.Header.Get("Content-Range") == "" {
			t.Errorf("%s: %s: %d %q", c.name, c.value, a.Status, a.Body)
		}
		if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %s: %v", c.name, c.value, a.Header)
		}
	}
	getBlob := func(did, id string) pdstest.Answer {
		return h.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + did + "&cid=" + id})
	}
	getBlob(h.DID, blockCID).WantError(t, http.StatusBadRequest, "BlobNotFound", "Blob not found")
	getBlob(h.DID, cidOf("other").String()).WantError(t, http.StatusBadRequest, "BlobNotFound", "Blob not found")
	getBlob(h.DID, "x").WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid cid at $.cid")
	getBlob("x", id).WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid did at $.did")
	getBlob("alice.test", id).WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid did at $.did")
	getBlob(unknownDID, id).WantError(t, http.StatusBadRequest, "RepoNotFound", "Could not find repo for DID: "+unknownDID)
	// Another form of the same CID leads to the same blob.
	upper := "B" + strings.ToUpper(id[1:])
	if a := getBlob(h.DID, upper); a.Status != http.StatusOK || a.Header.Get("Etag") != `"`+id+`"` {
		t.Errorf("%d %v", a.Status, a.Header)
	}
}

// TestVisibility: an account that is not active shows nothing, except to its owner
// and the admin, and may upload while deactivated, as it does when it moves in.
func TestVisibility(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{})
	r := h.put(t, strings.NewReader("hello"), "text/plain")
	h.mustUse(t, "1", r)
	owner, admin := pdstest.Bearer(h.AccessJwt), "Basic YWRtaW46YWRtaW4="
	list := func(who string) pdstest.Answer {
		return h.Do(t, pdstest.Request{NSID: "com.atproto.sync.listBlobs?did=" + h.DID, Auth: who})
	}
	seen := func(state string, viewers ...string) {
		t.Helper()
		for _, who := range viewers {
			if a := h.get(t, r.Ref.Link, "Authorization", who); a.Status != http.StatusOK || string(a.Body) != "hello" || who != "" && a.Header.Get("Cache-Control") != "private" {
				t.Errorf("%s: getBlob: %d %s %v", state, a.Status, a.Body, a.Header)
			}
			if a := list(who); a.Status != http.StatusOK {
				t.Errorf("%s: listBlobs: %d %s", state, a.Status, a.Body)
			}
		}
	}
	seen("active", "", owner, admin)

	if a := h.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: owner, Body: "{}"}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	h.get(t, r.Ref.Link).WantError(t, http.StatusBadRequest, "RepoDeactivated", "Repo has been deactivated: "+h.DID)
	list("").WantError(t, http.StatusBadRequest, "RepoDeactivated", "Repo has been deactivated: "+h.DID)
	seen("deactivated", owner, admin)
	h.put(t, strings.NewReader("moving in"), "text/plain")

	if a := h.Do(t, pdstest.Request{NSID: "com.atproto.admin.updateSubjectStatus", Auth: admin, Body: map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": h.DID},
		"takedown": map[string]any{"applied": true, "ref": "x"},
	}}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	h.get(t, r.Ref.Link).WantError(t, http.StatusBadRequest, "RepoTakendown", "Repo has been takendown: "+h.DID)
	list("").WantError(t, http.StatusBadRequest, "RepoTakendown", "Repo has been takendown: "+h.DID)
	seen("taken down", admin)
	h.send(t, strings.NewReader("x"), "text/plain").WantError(t, http.StatusUnauthorized, "AccountTakedown", "Account has been taken down")
}

func TestListBlobs(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{})
	var want []string
	for _, content := range []string{"a", "b", "c"} {
		r := h.put(t, strings.NewReader(content), "text/plain")
		h.mustUse(t, content, r)
		want = append(want, r.Ref.Link)
	}
	slices.Sort(want)
	h.put(t, strings.NewReader("unused"), "text/plain")
	page := func(query string) (out blob.ListBlobsOutput) {
		t.Helper()
		a := h.Do(t, pdstest.Request{NSID: "com.atproto.sync.listBlobs?did=" + h.DID + query})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, a.Status, a.Body)
		}
		a.Decode(t, &out)
		return out
	}
	if out := page(""); !slices.Equal(out.CIDs, want) || out.Cursor != want[2] {
		t.Errorf("%+v, want %q", out, want)
	}
	if out := page("&limit=2"); !slices.Equal(out.CIDs, want[:2]) || out.Cursor != want[1] {
		t.Errorf("%+v", out)
	}
	if out := page("&limit=1000&cursor=" + want[1]); !slices.Equal(out.CIDs, want[2:]) {
		t.Errorf("%+v", out)
	}
	if out := page("&since=" + syntax.NewTIDFromTime(time.Now().Add(time.Hour), 0).String()); len(out.CIDs) > 0 {
		t.Errorf("%+v", out)
	}
	const list = "com.atproto.sync.listBlobs?did="
	if a := h.Do(t, pdstest.Request{NSID: list + h.DID + "&cursor=" + want[2]}); string(a.Body) != `{"cids":[]}` {
		t.Errorf("behind the end: %s", a.Body)
	}
	for query, message := range map[string]string{
		"&limit=0":    "limit must be from 1 to 1000 at $.limit",
		"&limit=1001": "limit must be from 1 to 1000 at $.limit",
		"&since=x":    "Invalid tid at $.since",
	} {
		h.Do(t, pdstest.Request{NSID: list + h.DID + query}).WantError(t, http.StatusBadRequest, "InvalidRequest", message)
	}
	h.Do(t, pdstest.Request{NSID: list + unknownDID}).WantError(t, http.StatusBadRequest, "RepoNotFound", "Could not find repo for DID: "+unknownDID)

	missing := func(query string) pdstest.Answer {
		return h.Do(t, pdstest.Request{NSID: "com.atproto.repo.listMissingBlobs" + query, Auth: pdstest.Bearer(h.AccessJwt)})
	}
	if a := missing(""); string(a.Body) != `{"blobs":[]}` {
		t.Errorf("missing: %s", a.Body)
	}
	missing("?limit=1001").WantError(t, http.StatusBadRequest, "InvalidRequest", "limit must be from 1 to 1000 at $.limit")
	h.Do(t, pdstest.Request{NSID: "com.atproto.repo.listMissingBlobs"}).WantError(t, http.StatusUnauthorized, "AuthMissing", "Authentication Required")
}

// accounts finds the world's account.
type accounts struct {
	account *account.Account
	status  string
}

func (a accounts) Find(_ context.Context, did syntax.DID) (blob.Account, error) {
	if did != a.account.DID {
		return blob.Account{}, blob.ErrNoAccount
	}
	return blob.Account{ID: a.account.ID, Status: a.status}, nil
}

// TestListMissingBlobs lists what an import refers to, until it is uploaded.
func TestListMissingBlobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account, status: "deactivated"}
	caller := auth.StandardCaller{Access: auth.Access{DID: w.account.DID}}
	w.imported("1", cidOf("a"), cidOf("b"))
	var found []string
	for cursor := ""; ; {
		out, err := w.ListMissingBlobs(t.Context(), caller, blob.ListMissingBlobsParams{Limit: new(int64(1)), Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		if cursor = out.Cursor; cursor == "" {
			break
		}
		if len(out.Blobs) != 1 || out.Blobs[0].RecordURI != "at://"+w.account.DID.String()+"/app.post/1" || out.Blobs[0].CID != cursor {
			t.Fatalf("%+v", out)
		}
		found = append(found, cursor)
	}
	want := []string{cidOf("a").String(), cidOf("b").String()}
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
	w.upload("a")
	w.wantRead("a") // immediately: a record refers to it already
	w.upload("b")
	if out, err := w.ListMissingBlobs(t.Context(), caller, blob.ListMissingBlobsParams{}); err != nil || len(out.Blobs) > 0 || out.Cursor != "" {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestSuspended: a suspension has its own name.
func TestSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account, status: "suspended"}
	_, err := w.ListBlobs(t.Context(), auth.Viewer{}, blob.ListBlobsParams{DID: w.account.DID.String()})
	wantError(t, err, http.StatusBadRequest, "RepoSuspended")
	if _, err := w.ListBlobs(t.Context(), auth.Viewer{DID: w.account.DID}, blob.ListBlobsParams{DID: w.account.DID.String()}); err != nil {
		t.Error(err)
	}
}

func wantError(t *testing.T, err error, status int, name string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %d %s", status, name)
	} else if wire := xrpc.AsError(t.Context(), err); wire.Status != status || wire.Name != name {
		t.Errorf("%v, want %d %s", err, status, name)
	}
}

// TestUploadsAreLimited: 1000 a day for an account, whether they succeed or not;
// more for one that moves in, none for one that was taken down.
func TestUploadsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account}
	w.Limits = ratelimit.New(1000, w.Clock.Now)
	client := request.Client{Addr: netip.MustParseAddr("192.0.2.1")}
	ctx := request.WithClient(t.Context(), client)
	caller := auth.NewScoped(auth.UploadCaller{Holder: auth.Holder{DID: w.account.DID}})
	upload := func(ctx context.Context) error {
		_, err := w.UploadBlob(ctx, caller, xrpc.Upload{ContentType: "", Reader: strings.NewReader("x")})
		return err
	}
	for range 1000 {
		wantError(t, upload(ctx), http.StatusBadRequest, "InvalidRequest")
	}
	if got := request.Header(ctx).Get("RateLimit-Policy"); got != "1000;w=86400" {
		t.Errorf("policy %s", got)
	}
	wantError(t, upload(ctx), http.StatusTooManyRequests, "RateLimitExceeded")
	client.Unlimited = true
	wantError(t, upload(request.WithClient(t.Context(), client)), http.StatusBadRequest, "InvalidRequest")
	w.Clock.Advance(24 * time.Hour)
	wantError(t, upload(ctx), http.StatusBadRequest, "InvalidRequest")

	w.Accounts = accounts{account: w.account, status: event.StatusDeactivated} // as one that moves in is
	for range 20_000 {
		if wantError(t, upload(ctx), http.StatusBadRequest, "InvalidRequest"); t.Failed() {
			t.FailNow()
		}
	}
	wantError(t, upload(ctx), http.StatusTooManyRequests, "RateLimitExceeded")
	w.Accounts = accounts{account: w.account, status: event.StatusTakenDown} // a service's token verifies all the same
	wantError(t, upload(ctx), http.StatusUnauthorized, "AccountTakedown")
}

// TestUploadBytesAreLimited: an account may upload so many MiB a day, rounded up, and
// nothing is kept of an upload for which none is left.
func TestUploadBytesAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account}
	w.Limits = ratelimit.New(1000, w.Clock.Now)
	caller := auth.NewScoped(auth.UploadCaller{Holder: auth.Holder{DID: w.account.DID}})
	limit := ratelimit.Limit{Name: "upload bytes", Points: 20 << 10, Window: 24 * time.Hour}
	if !w.Limits.TakeN(w.account.DID.String(), limit.Points-2, limit).Allowed {
		t.Fatal("there is no such limit any more")
	}
	upload := func(size int64) error {
		_, err := w.UploadBlob(t.Context(), caller, xrpc.Upload{ContentType: "a/b", Length: -1, Reader: io.LimitReader(endless{}, size)})
		return err
	}
	for range 2 {
		if err := upload(100_000); err != nil {
			t.Error(err)
		}
	}
	wantError(t, upload(1), http.StatusTooManyRequests, "RateLimitExceeded")
	w.Clock.Advance(24 * time.Hour)
	if err := upload(1 << 20); err != nil || !w.Limits.TakeN(w.account.DID.String(), limit.Points-1, limit).Allowed {
		t.Errorf("a day later: %v, or it took more than a point", err)
	}
	wantError(t, upload(1), http.StatusTooManyRequests, "RateLimitExceeded")
}

// looking is a store that scans so many thousands of references.
type looking struct {
	blob.Store
	thousands int
}

func (l looking) look(pay blob.Pay) error {
	for range l.thousands {
		if err := pay(); err != nil {
			return err
		}
	}
	return nil
}

func (l looking) List(_ context.Context, _ int64, _ syntax.TID, _ string, _ int, pay blob.Pay) ([]cid.Cid, error) {
	return nil, l.look(pay)
}

func (l looking) Missing(_ context.Context, _ int64, _ string, _ int, pay blob.Pay) ([]blob.Missing, error) {
	return nil, l.look(pay)
}

// TestReferencesAreLimited: scans of references for a network, or an account, have
// a limit, which no header shows before it is reached.
func TestReferencesAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account}
	w.Limits = ratelimit.New(1000, w.Clock.Now)
	w.Store = looking{w.Store, 4000}
	from := func(addr string) context.Context {
		return request.WithClient(t.Context(), request.Client{Addr: netip.MustParseAddr(addr)})
	}
	list := func(ctx context.Context) error {
		_, err := w.ListBlobs(ctx, auth.Viewer{}, blob.ListBlobsParams{DID: w.account.DID.String(), Since: "3aaaaaaaaaa22"})
		return err
	}
	missing := func(ctx context.Context) error {
		_, err := w.ListMissingBlobs(ctx, auth.StandardCaller{Access: auth.Access{DID: w.account.DID}}, blob.ListMissingBlobsParams{})
		return err
	}
	refused := func(what string, ctx context.Context, call func(context.Context) error) {
		t.Helper()
		err := call(ctx)
		wire, ok := errors.AsType[*xrpc.Error](err)
		if !ok || wire.Status != http.StatusTooManyRequests || wire.Name != "RateLimitExceeded" || wire.RetryAfter != 5*time.Minute {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 2 {
		ctx := from("192.0.2.1")
		if err := list(ctx); err != nil || len(request.Header(ctx)) > 0 {
			t.Fatalf("%v, told %v", err, request.Header(ctx))
		}
	}
	refused("a third of a network", from("192.0.2.1"), list)
	refused("the same network", from("192.0.2.1"), missing)
	if err := list(from("192.0.2.2")); err != nil {
		t.Errorf("another network: %v", err)
	}
	w.Clock.Advance(5 * time.Minute)
	for i := range 2 {
		ctx := from(fmt.Sprintf("192.0.2.%d", 10+i))
		if err := missing(ctx); err != nil || len(request.Header(ctx)) > 0 {
			t.Fatalf("%v, told %v", err, request.Header(ctx))
		}
	}
	refused("a third of an account", from("192.0.2.20"), missing)
	if err := missing(request.WithClient(t.Context(), request.Client{Unlimited: true})); err != nil {
		t.Errorf("exempt: %v", err)
	}
}
