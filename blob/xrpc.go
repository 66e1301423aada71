package blob

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// scans limits what is scanned for a client network, or an account: a point for each
// PayEvery references to blobs.
var scans = ratelimit.Limit{Name: "blob scans", Points: 10_000, Window: 5 * time.Minute}

// payer returns a Pay that counts what a call scans: for the client's network and, if
// account is not empty, for the account.
func (s *Service) payer(ctx context.Context, account string) Pay {
	return func() error {
		if account != "" {
			if err := request.Charge(ctx, s.Limits, account, 1, scans); err != nil {
				return err
			}
		}
		return request.ChargeNetwork(ctx, s.Limits, 1, scans)
	}
}

// UploadBlobOutput is the answer of uploadBlob.
type UploadBlobOutput struct {
	Blob Ref `json:"blob"`
}

// Ref is a blob as a record refers to it
// (https://atproto.com/specs/data-model#blob-type).
type Ref struct {
	Type     string `json:"$type"`
	Ref      Link   `json:"ref"`
	MimeType string `json:"mimeType"`
	Size     int64  `json:"size"`
}

// Link is a CID in JSON.
type Link struct {
	CID string `json:"$link"`
}

// UploadBlob is com.atproto.repo.uploadBlob. An account that is not active may
// upload: one that moves in does, before it is activated.
func (s *Service) UploadBlob(ctx context.Context, calling auth.Scoped[auth.UploadCaller], in xrpc.Upload) (UploadBlobOutput, error) {
	declared, typed := mediaType(in.ContentType)
	caller, err := calling.For(scope.NeedBlob(declared))
	if err != nil {
		return UploadBlobOutput{}, err
	}
	a, err := s.Accounts.Find(ctx, caller.DID)
	if err != nil {
		return UploadBlobOutput{}, wireError(err)
	}
	if err := auth.May(auth.UseBring, a.Status, ""); err != nil { // a service token's account was not checked yet
		return UploadBlobOutput{}, err
	}
	limit, bytes := uploadLimits(a.Status)
	if err := auth.Admit(ctx, s.Limits, caller.Holder, 1, limit); err != nil {
		return UploadBlobOutput{}, err
	}
	if !typed {
		return UploadBlobOutput{}, xrpc.InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	body := s.counted(ctx, in, caller.DID, bytes)
	b, err := s.upload(ctx, a.ID, caller.Via, body, in.Length, declared, func(_ cid.Cid, mimeType string) error {
		return caller.May(scope.NeedBlob(mimeType))
	})
	if err != nil {
		return UploadBlobOutput{}, wireError(err)
	}
	return UploadBlobOutput{Ref{Type: "blob", Ref: Link{b.CID.String()}, MimeType: b.MimeType, Size: b.Size}}, nil
}

// GetBlobParams is the input of getBlob.
type GetBlobParams struct {
	DID string `json:"did"`
	CID string `json:"cid"`
}

// GetBlob is com.atproto.sync.getBlob.
func (s *Service) GetBlob(ctx context.Context, viewer auth.Viewer, p GetBlobParams, w http.ResponseWriter, r *http.Request) error {
	id, err := dagcbor.ParseCID(p.CID)
	if err != nil {
		return xrpc.InvalidRequest("Invalid cid at $.cid")
	}
	a, err := s.visible(ctx, viewer, p.DID)
	if err != nil {
		return err
	}
	if !dagcbor.IsBlobCID(id) {
		return wireError(ErrNotFound)
	}
	b, file, err := s.Open(ctx, a.ID, id)
	if err != nil {
		return wireError(err)
	}
	defer func() { _ = file.Close() }() // it was only read
	// The content under a URL never changes, but it may be taken down.
	if a.Status == "" && viewer == (auth.Viewer{}) {
		w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(publicFor/time.Second)))
	}
	b.Send(w, r, file)
	return nil
}

// Send answers a request by a blob's content. An upload is foreign content: no browser may
// take it for a page of this server.
func (b *Blob) Send(w http.ResponseWriter, r *http.Request, file File) {
	h := w.Header()
	name := b.CID.String()
	h.Set("Content-Type", b.MimeType)
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+name+`"`)
	if r.Header.Get("Range") == "bytes=-0" { // none of it (RFC 9110, 14.1.2): ServeContent would send a range that ends before it begins
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(b.Size, 10))
		http.Error(w, "the range has no bytes", http.StatusRequestedRangeNotSatisfiable)
		return
	}
	http.ServeContent(w, inBytes(r), "", time.Time{}, file)
}

// inBytes returns r without a range of another unit than bytes, which must be
// ignored (RFC 9110, 14.2): ServeContent would refuse it as malformed.
func inBytes(r *http.Request) *http.Request {
	unit, ranges, _ := strings.Cut(r.Header.Get("Range"), "=")
	if unit == "bytes" || unit == "" {
		return r
	}
	r = r.Clone(r.Context())
	if strings.EqualFold(unit, "bytes") {
		r.Header.Set("Range", "bytes="+ranges)
	} else {
		r.Header.Del("Range")
	}
	return r
}

// publicFor is how long anyone may keep showing a blob without asking again.
const publicFor = 5 * time.Minute

// visible returns an account whose content the viewer may see, or the error for
// the client.
func (s *Service) visible(ctx context.Context, viewer auth.Viewer, name string) (Account, error) {
	did, err := syntax.ParseDID(name)
	if err != nil {
		return Account{}, xrpc.InvalidRequest("Invalid did at $.did")
	}
	a, err := s.Accounts.Find(ctx, did)
	switch {
	case errors.Is(err, ErrNoAccount):
		return Account{}, xrpc.BadRequest("RepoNotFound", "Could not find repo for DID: "+name)
	case err != nil:
		return Account{}, wireError(err)
	}
	return a, viewer.Refused(did, a.Status)
}

// Limits of one page of a list.
const (
	defaultPage = 500
	maxPage     = 1000
)

func pageSize(limit *int64) (int, error) {
	switch {
	case limit == nil:
		return defaultPage, nil
	case *limit < 1 || *limit > maxPage:
		return 0, xrpc.InvalidRequest("limit must be from 1 to %d at $.limit", maxPage)
	default:
		return int(*limit), nil
	}
}

// ListBlobsParams is the input of listBlobs.
type ListBlobsParams struct {
	DID    string `json:"did"`
	Since  string `json:"since,omitzero"`
	Limit  *int64 `json:"limit,omitzero"`
	Cursor string `json:"cursor,omitzero"`
}

// ListBlobsOutput is the answer of listBlobs.
type ListBlobsOutput struct {
	Cursor string   `json:"cursor,omitzero"`
	CIDs   []string `json:"cids"`
}

// ListBlobs is com.atproto.sync.listBlobs.
func (s *Service) ListBlobs(ctx context.Context, viewer auth.Viewer, p ListBlobsParams) (ListBlobsOutput, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return ListBlobsOutput{}, err
	}
	var since syntax.TID
	if p.Since != "" {
		if since, err = syntax.ParseTID(p.Since); err != nil {
			return ListBlobsOutput{}, xrpc.InvalidRequest("Invalid tid at $.since")
		}
	}
	a, err := s.visible(ctx, viewer, p.DID)
	if err != nil {
		return ListBlobsOutput{}, err
	}
	ids, err := s.Store.List(ctx, a.ID, since, p.Cursor, limit, s.payer(ctx, ""))
	if err != nil {
		return ListBlobsOutput{}, wireError(err)
	}
	out := ListBlobsOutput{CIDs: make([]string, len(ids))}
	for i, id := range ids {
		out.CIDs[i] = id.String()
		out.Cursor = out.CIDs[i]
	}
	return out, nil
}

// ListMissingBlobsParams is the input of listMissingBlobs.
type ListMissingBlobsParams struct {
	Limit  *int64 `json:"limit,omitzero"`
	Cursor string `json:"cursor,omitzero"`
}

// ListMissingBlobsOutput is the answer of listMissingBlobs.
type ListMissingBlobsOutput struct {
	Cursor string       `json:"cursor,omitzero"`
	Blobs  []RecordBlob `json:"blobs"`
}

// RecordBlob is a blob that a record refers to.
type RecordBlob struct {
	CID       string `json:"cid"`
	RecordURI string `json:"recordUri"`
}

// ListMissingBlobs is com.atproto.repo.listMissingBlobs: what the owner of an
// account that moved in still has to upload.
func (s *Service) ListMissingBlobs(
	ctx context.Context, caller auth.StandardCaller, p ListMissingBlobsParams,
) (ListMissingBlobsOutput, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return ListMissingBlobsOutput{}, err
	}
	a, err := s.Accounts.Find(ctx, caller.DID)
	if err != nil {
		return ListMissingBlobsOutput{}, wireError(err)
	}
	missing, err := s.Store.Missing(ctx, a.ID, p.Cursor, limit, s.payer(ctx, caller.DID.String()))
	if err != nil {
		return ListMissingBlobsOutput{}, wireError(err)
	}
	out := ListMissingBlobsOutput{Blobs: make([]RecordBlob, len(missing))}
	for i, m := range missing {
		out.Blobs[i] = RecordBlob{CID: m.CID.String(), RecordURI: "at://" + caller.DID.String() + "/" + m.Record}
		out.Cursor = out.Blobs[i].CID
	}
	return out, nil
}

// wireError maps the package's errors to those that clients get. Any other error is
// a dependency that failed: a 503.
func wireError(err error) error {
	if many, ok := errors.AsType[request.ErrTooMany](err); ok {
		return xrpc.TooManyRequests(many.Wait)
	}
	_, isWire := errors.AsType[*xrpc.Error](err)
	switch {
	case isWire:
		return err
	case errors.Is(err, ErrTooLarge):
		return xrpc.PayloadTooLarge()
	case errors.Is(err, errBody):
		return xrpc.UnreadableBody(err)
	case errors.Is(err, errManyUploads):
		return xrpc.TooManyRequests(busyFor)
	case errors.Is(err, ErrInFlight):
		e := xrpc.Unavailable(err)
		e.RetryAfter = busyFor
		return e
	case errors.Is(err, ErrQuota):
		return xrpc.BadRequest("BlobQuotaExceeded", "The account's blobs take as much room as they may")
	case errors.Is(err, ErrTakenDown):
		return xrpc.InvalidRequest("Blob has been takendown, cannot re-upload")
	case errors.Is(err, ErrNotFound):
		return xrpc.BadRequest("BlobNotFound", "Blob not found")
	case errors.Is(err, ErrNoAccount):
		return auth.Expired() // deleted since the caller was proven
	default:
		return xrpc.Unavailable(err)
	}
}
