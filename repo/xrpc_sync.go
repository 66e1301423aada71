package repo

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/internal/gate"
	"nestbox/request"
	"nestbox/xrpc"
)

// typeCAR is the media type of CAR files.
const typeCAR = "application/vnd.ipld.car"

// DIDParams are the parameters of several endpoints.
type DIDParams struct {
	DID string `json:"did"`
}

// hosted returns the account that a DID names, whatever its status.
func (s *Service) hosted(ctx context.Context, did string) (Account, error) {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return Account{}, xrpc.InvalidRequest("Invalid DID at $.did")
	}
	a, err := s.Accounts.Find(ctx, id.AtIdentifier())
	if err != nil {
		return Account{}, wireError(err, noRepo(id))
	}
	return a, nil
}

// seen is hosted for content that only the owner and the admin see while the account
// is not active.
func (s *Service) seen(ctx context.Context, viewer auth.Viewer, did string) (Account, error) {
	a, err := s.hosted(ctx, did)
	if err == nil {
		err = viewer.Refused(a.DID, a.Status)
	}
	return a, err
}

func noRepo(did syntax.DID) string { return "Could not find repo for DID: " + did.String() }

// GetRepoParams are the parameters of getRepo.
type GetRepoParams struct {
	DID   string `json:"did"`
	Since string `json:"since,omitzero"`
}

// GetRepo is com.atproto.sync.getRepo. A since that is not a revision of the
// repository, or is in the future, is a point in time like any other.
func (s *Service) GetRepo(ctx context.Context, viewer auth.Viewer, p GetRepoParams, w http.ResponseWriter, _ *http.Request) error {
	var since syntax.TID
	if p.Since != "" {
		var err error
		if since, err = syntax.ParseTID(p.Since); err != nil {
			return xrpc.InvalidRequest("Invalid TID at $.since")
		}
	}
	a, err := s.seen(ctx, viewer, p.DID)
	if err != nil {
		return err
	}
	place, err := s.download(request.ClientOf(ctx))
	if err != nil {
		return wireError(err, "")
	}
	defer place.Leave()
	file, leave, err := s.shared(ctx, a, since)
	if err != nil {
		return wireError(err, noRepo(a.DID))
	}
	defer leave()
	return s.send(ctx, w, file, place)
}

// GetCheckout is com.atproto.sync.getCheckout, deprecated: the old getRepo.
func (s *Service) GetCheckout(ctx context.Context, viewer auth.Viewer, p DIDParams, w http.ResponseWriter, r *http.Request) error {
	return s.GetRepo(ctx, viewer, GetRepoParams{DID: p.DID}, w, r)
}

// GetProofParams are the parameters of com.atproto.sync.getRecord.
type GetProofParams struct {
	DID        string `json:"did"`
	Collection string `json:"collection"`
	RKey       string `json:"rkey"`
}

// GetProof is com.atproto.sync.getRecord: a proof that a record exists, or that it
// does not.
func (s *Service) GetProof(ctx context.Context, viewer auth.Viewer, p GetProofParams, w http.ResponseWriter, _ *http.Request) error {
	if _, err := syntax.ParseNSID(p.Collection); err != nil {
		return xrpc.InvalidRequest("Invalid NSID at $.collection")
	}
	if _, err := syntax.ParseRecordKey(p.RKey); err != nil {
		return xrpc.InvalidRequest("Invalid record key at $.rkey")
	}
	a, err := s.seen(ctx, viewer, p.DID)
	if err != nil {
		return err
	}
	out := s.newSpool(true)
	file, err := out.made(s.Store.View(ctx, a.ID, func(v View) error { return proof(v, p.Collection+"/"+p.RKey, out) }))
	if err != nil {
		return wireError(err, noRepo(a.DID))
	}
	defer file.close()
	// Nearly all proofs are as small as other answers, and take no place.
	var place *gate.Place[string]
	if file.size > spoolChunk {
		if place, err = s.download(request.ClientOf(ctx)); err != nil {
			return wireError(err, "")
		}
		defer place.Leave()
	}
	return s.send(ctx, w, file, place)
}

// maxAsked is how many blocks getBlocks returns at once.
const maxAsked = 256

// GetBlocksParams are the parameters of getBlocks.
type GetBlocksParams struct {
	DID  string   `json:"did"`
	CIDs []string `json:"cids"`
}

// GetBlocks is com.atproto.sync.getBlocks.
func (s *Service) GetBlocks(ctx context.Context, viewer auth.Viewer, p GetBlocksParams, w http.ResponseWriter, _ *http.Request) error {
	if len(p.CIDs) > maxAsked {
		return xrpc.InvalidRequest("array too big (maximum %d, got %d) at $.cids", maxAsked, len(p.CIDs))
	}
	ids := make([]cid.Cid, 0, len(p.CIDs))
	for _, text := range p.CIDs {
		id, err := dagcbor.ParseCID(text)
		if err != nil {
			return xrpc.InvalidRequest("Invalid CID at $.cids")
		}
		ids = append(ids, id)
	}
	a, err := s.seen(ctx, viewer, p.DID)
	if err != nil {
		return err
	}
	place, err := s.download(request.ClientOf(ctx))
	if err != nil {
		return wireError(err, "")
	}
	defer place.Leave()
	head, err := s.head(ctx, a.ID)
	if err == nil {
		err = s.charge(ctx, head)
	}
	if err != nil {
		return wireError(err, noRepo(a.DID))
	}
	out := s.paidSpool(ctx)
	file, err := out.made(s.Store.Scan(ctx, a.ID, func(v View) error {
		missing, err := blocks(v, ids, out)
		if err != nil || len(missing) == 0 {
			return err
		}
		names := make([]string, len(missing))
		for i, id := range missing {
			names[i] = id.String()
		}
		return refuse(nameInvalidRequest, "Could not find cids: %s", strings.Join(names, ","))
	}))
	if err != nil {
		return wireError(err, noRepo(a.DID))
	}
	defer file.close()
	return s.send(ctx, w, file, place)
}

// GetLatestCommitOutput is the output of getLatestCommit.
type GetLatestCommitOutput struct {
	CID string     `json:"cid"`
	Rev syntax.TID `json:"rev"`
}

// GetLatestCommit is com.atproto.sync.getLatestCommit.
func (s *Service) GetLatestCommit(ctx context.Context, viewer auth.Viewer, p DIDParams) (GetLatestCommitOutput, error) {
	a, err := s.seen(ctx, viewer, p.DID)
	if err != nil {
		return GetLatestCommitOutput{}, err
	}
	head, err := s.head(ctx, a.ID)
	if err != nil {
		return GetLatestCommitOutput{}, wireError(err, "Could not find root for DID: "+a.DID.String())
	}
	return GetLatestCommitOutput{CID: head.CID.String(), Rev: head.Rev}, nil
}

// GetHeadOutput is the output of getHead.
type GetHeadOutput struct {
	Root string `json:"root"`
}

// GetHead is com.atproto.sync.getHead, deprecated: the old getLatestCommit.
func (s *Service) GetHead(ctx context.Context, viewer auth.Viewer, p DIDParams) (GetHeadOutput, error) {
	a, err := s.seen(ctx, viewer, p.DID)
	if err != nil {
		return GetHeadOutput{}, err
	}
	head, err := s.head(ctx, a.ID)
	if errors.Is(err, ErrNoRepo) {
		return GetHeadOutput{}, xrpc.BadRequest("HeadNotFound", "Could not find root for DID: "+a.DID.String())
	}
	if err != nil {
		return GetHeadOutput{}, xrpc.Unavailable(err)
	}
	return GetHeadOutput{Root: head.CID.String()}, nil
}

// GetRepoStatusOutput is the output of getRepoStatus: Status if the account is not active,
// Rev if it is.
type GetRepoStatusOutput struct {
	DID    syntax.DID `json:"did"`
	Active bool       `json:"active"`
	Status string     `json:"status,omitzero"`
	Rev    syntax.TID `json:"rev,omitzero"`
}

// GetRepoStatus is com.atproto.sync.getRepoStatus.
func (s *Service) GetRepoStatus(ctx context.Context, _ auth.Anyone, p DIDParams) (GetRepoStatusOutput, error) {
	a, err := s.hosted(ctx, p.DID)
	if err != nil {
		return GetRepoStatusOutput{}, err
	}
	out := GetRepoStatusOutput{DID: a.DID, Active: a.Status == "", Status: a.Status}
	if !out.Active {
		return out, nil
	}
	head, err := s.head(ctx, a.ID)
	if err != nil {
		return GetRepoStatusOutput{}, wireError(err, noRepo(a.DID))
	}
	out.Rev = head.Rev
	return out, nil
}

// Limits of listRepos.
const (
	maxListRepos     = 1000
	defaultListRepos = 500
)

// ListReposParams are the parameters of listRepos.
type ListReposParams struct {
	Limit  *int64 `json:"limit,omitzero"`
	Cursor string `json:"cursor,omitzero"`
}

// ListReposOutput is the output of listRepos. Cursor points behind the last of Repos.
type ListReposOutput struct {
	Cursor string       `json:"cursor,omitzero"`
	Repos  []ListedRepo `json:"repos"`
}

// ListedRepo is one of them.
type ListedRepo struct {
	DID    syntax.DID `json:"did"`
	Head   string     `json:"head"`
	Rev    syntax.TID `json:"rev"`
	Active bool       `json:"active"`
	Status string     `json:"status,omitzero"`
}

// ListRepos is com.atproto.sync.listRepos: in the order in which the accounts were
// made, including inactive ones.
func (s *Service) ListRepos(ctx context.Context, _ auth.Anyone, p ListReposParams) (ListReposOutput, error) {
	limit := int64(defaultListRepos)
	if p.Limit != nil {
		limit = *p.Limit
	}
	if limit < 1 || limit > maxListRepos {
		return ListReposOutput{}, xrpc.InvalidRequest("limit must be from 1 to %d", maxListRepos)
	}
	var after int64
	if p.Cursor != "" {
		var err error
		if after, err = strconv.ParseInt(p.Cursor, 10, 64); err != nil || after < 0 {
			return ListReposOutput{}, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	heads, err := s.Store.Heads(ctx, after, int(limit))
	if err != nil {
		return ListReposOutput{}, xrpc.Unavailable(err)
	}
	out := ListReposOutput{Repos: make([]ListedRepo, 0, len(heads))}
	for _, h := range heads {
		out.Repos = append(out.Repos, ListedRepo{DID: h.DID, Head: h.CID.String(), Rev: h.Rev, Active: h.Status == "", Status: h.Status})
		out.Cursor = strconv.FormatInt(h.AccountID, 10)
	}
	return out, nil
}

// ImportRepo is com.atproto.repo.importRepo.
func (s *Service) ImportRepo(ctx context.Context, caller auth.FullCaller, in xrpc.Upload) (xrpc.None, error) {
	if s.NoImports {
		return xrpc.None{}, xrpc.InvalidRequest("Service is not accepting repo imports")
	}
	if kind, _, err := mime.ParseMediaType(in.ContentType); err != nil || kind != typeCAR {
		return xrpc.None{}, xrpc.InvalidRequest("Wrong request encoding (Content-Type): expected %s", typeCAR)
	}
	if in.Length > s.maxImport() {
		return xrpc.None{}, importError(ErrTooLarge)
	}
	a, err := s.hosted(ctx, caller.DID.String())
	if err != nil {
		return xrpc.None{}, err
	}
	if a.Status != event.StatusDeactivated {
		if err := available(a); err != nil {
			return xrpc.None{}, err
		}
	}
	_, err = s.importUpload(ctx, a, in)
	return xrpc.None{}, importError(err)
}

// importError returns the errors of Import as clients see them.
func importError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrTooLarge):
		return &xrpc.Error{Status: http.StatusRequestEntityTooLarge, Name: xrpc.NamePayloadTooLarge, Message: err.Error()}
	case errors.Is(err, ErrImport), errors.Is(err, ErrImporting):
		return xrpc.InvalidRequest("%s", err)
	case errors.Is(err, ErrConflict):
		return xrpc.BadRequest(nameInvalidSwap, "The repository was written to during the import; nothing was imported, please try again")
	case errors.Is(err, xrpc.ErrBody):
		return xrpc.UnreadableBody(err)
	default:
		return wireError(err, "Could not find repo")
	}
}
