package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/xrpc"
)

// shown returns the account whose repository a public endpoint shows. An inactive
// account counts as none, as in the reference.
func (s *Service) shown(ctx context.Context, repo string) (Account, error) {
	name, err := parseRepo(repo)
	if err != nil {
		return Account{}, err
	}
	a, err := s.Accounts.Find(ctx, name)
	if errors.Is(err, ErrNoRepo) || err == nil && a.Status != "" {
		e := xrpc.InvalidRequest("Could not find repo: %s", repo)
		e.Cause = err
		return Account{}, e
	}
	if err != nil {
		return Account{}, xrpc.Unavailable(err)
	}
	return a, nil
}

// GetRecordParams are the parameters of getRecord.
type GetRecordParams struct {
	Repo       string  `json:"repo"`
	Collection string  `json:"collection"`
	RKey       string  `json:"rkey"`
	CID        *string `json:"cid,omitzero"`
}

// GetRecord is com.atproto.repo.getRecord. Only the current version of a record can
// be read.
func (s *Service) GetRecord(ctx context.Context, _ auth.Anyone, p GetRecordParams) (xrpc.RawJSON, error) {
	collection, err := parseCollection(p.Collection, "$.collection")
	if err != nil {
		return nil, err
	}
	rkey, err := parseRKey(p.RKey, "$.rkey")
	if err != nil {
		return nil, err
	}
	var version cid.Cid
	if p.CID != nil {
		if version, err = parseCID(*p.CID, "$.cid"); err != nil {
			return nil, err
		}
	}
	a, err := s.shown(ctx, p.Repo)
	if err != nil {
		return nil, err
	}
	key := collection.String() + "/" + rkey.String()
	rec, err := s.Own(ctx, a.ID, key)
	if err == nil && version.Defined() && !version.Equals(rec.CID) {
		err = ErrNoRecord
	}
	if errors.Is(err, ErrNoRecord) {
		return nil, xrpc.BadRequest("RecordNotFound", "Could not locate record: "+recordURI(a.DID, key))
	}
	if err != nil {
		return nil, xrpc.Unavailable(err)
	}
	out, err := appendRecord(make([]byte, 0, jsonSize(rec)), a.DID, rec)
	if errors.Is(err, errUnreadable) {
		return nil, xrpc.BadRequest("RecordUnreadable", "The record "+recordURI(a.DID, key)+" is kept as it was imported but cannot be shown. "+
			"Export the repository to read it; delete or replace the record to get rid of it")
	}
	return out, err
}

// shownRecord returns a record unless moderation has taken it down.
func shownRecord(v View, key string) (Record, error) {
	rec, err := v.Record(key)
	if err != nil {
		return Record{}, err
	}
	down, err := v.TakenDown(key)
	if err == nil && down {
		err = ErrNoRecord
	}
	return rec, err
}

// jsonSize returns about how many bytes a record's JSON takes.
func jsonSize(r Record) int { return len(r.Block)*5/4 + len(r.Key) + 256 }

// appendRecord appends the JSON of a record with its URI and CID, straight from
// its block.
func appendRecord(dst []byte, did syntax.DID, r Record) ([]byte, error) {
	dst, err := jsontext.AppendQuote(append(dst, `{"uri":`...), recordURI(did, r.Key))
	if err != nil {
		return nil, fmt.Errorf("encode URI of record: %w", err)
	}
	dst = append(dst, `,"cid":"`...)
	dst = append(dst, r.CID.String()...)
	dst = append(dst, `","value":`...)
	if dst, err = r.AppendJSON(dst); err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

// AppendJSON appends the record's value as getRecord shows it. Its error is that an
// imported record cannot be shown.
func (r Record) AppendJSON(dst []byte) ([]byte, error) {
	out, err := appendValue(dst, r.Block)
	if err != nil {
		return nil, fmt.Errorf("%w: record %s: %w", errUnreadable, r.Key, err)
	}
	return out, nil
}

// errUnreadable: an imported record has no form in JSON. It is a part of the
// repository all the same.
var errUnreadable = errors.New("record cannot be shown")

// appendValue appends a record's JSON. An imported record that could not be written
// here is shown as far as JSON can express it.
func appendValue(dst, block []byte) ([]byte, error) {
	out, strict := dagcbor.AppendJSON(dst, block)
	if strict != nil {
		var err error
		if out, err = dagcbor.AppendLooseJSON(dst, block); err != nil {
			return nil, err
		}
	}
	if out[len(dst)] != '{' {
		return nil, fmt.Errorf("%w: it is not an object", errRecord)
	}
	return out, nil
}

// appendListed is appendRecord for a record in a list. A record that cannot be shown
// must not fail the list: its value is empty, and "unreadable" holds the reason.
func appendListed(dst []byte, did syntax.DID, r Record) ([]byte, error) {
	out, err := appendRecord(dst, did, r)
	if !errors.Is(err, errUnreadable) {
		return out, err
	}
	if dst, err = jsontext.AppendQuote(append(dst, `{"uri":`...), recordURI(did, r.Key)); err != nil {
		return nil, fmt.Errorf("encode URI of record: %w", err)
	}
	dst = append(dst, `,"cid":"`...)
	dst = append(dst, r.CID.String()...)
	dst = append(dst, `","value":{},"unreadable":`...)
	_, cause := appendValue(nil, r.Block)
	if dst, err = jsontext.AppendQuote(dst, strings.ToValidUTF8(reason(cause), "?")); err != nil {
		return nil, fmt.Errorf("encode why a record cannot be shown: %w", err)
	}
	return append(dst, '}'), nil
}

// How many records listRecords returns.
const (
	defaultListed = 50
	maxListed     = 100
	// maxListedBytes ends a page of records early, in bytes of their blocks and
	// of their JSON. One record is always in it.
	maxListedBytes = 2 << 20
)

// ListRecordsParams are the parameters of listRecords. Reverse lists the lowest keys
// first.
type ListRecordsParams struct {
	Repo       string `json:"repo"`
	Collection string `json:"collection"`
	Limit      *int64 `json:"limit,omitzero"`
	Cursor     string `json:"cursor,omitzero"`
	Reverse    bool   `json:"reverse,omitzero"`
}

// ListRecords is com.atproto.repo.listRecords.
func (s *Service) ListRecords(ctx context.Context, _ auth.Anyone, p ListRecordsParams) (xrpc.RawJSON, error) {
	collection, err := parseCollection(p.Collection, "$.collection")
	if err != nil {
		return nil, err
	}
	limit := int64(defaultListed)
	if p.Limit != nil {
		limit = *p.Limit
	}
	switch {
	case limit < 1:
		return nil, xrpc.InvalidRequest("integer too small (minimum 1, got %d) at $.limit", limit)
	case limit > maxListed:
		return nil, xrpc.InvalidRequest("integer too big (maximum %d, got %d) at $.limit", maxListed, limit)
	}
	a, err := s.shown(ctx, p.Repo)
	if err != nil {
		return nil, err
	}
	var records []Record
	err = s.Store.View(ctx, a.ID, func(v View) (err error) {
		records, err = v.Records(Range{
			Collection: collection.String(), After: p.Cursor, Ascending: p.Reverse, Shown: true,
			Limit: int(limit), Bytes: maxListedBytes,
		})
		return err
	})
	if err != nil && !errors.Is(err, ErrNoRepo) {
		return nil, xrpc.Unavailable(err)
	}
	return appendList(a.DID, records)
}

// appendList returns the JSON of a page: the records up to maxListedBytes, and a
// cursor behind the last of them.
func appendList(did syntax.DID, records []Record) (out []byte, err error) {
	size := 64
	for _, r := range records {
		size += jsonSize(r)
	}
	out = append(make([]byte, 0, size), `{"records":[`...)
	last := ""
	for i, r := range records {
		before := len(out)
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendListed(out, did, r); err != nil {
			return nil, err
		}
		if i > 0 && len(out) > maxListedBytes { // escapes make text up to six times as long
			out = out[:before]
			break
		}
		_, last, _ = strings.Cut(r.Key, "/")
	}
	out = append(out, ']')
	if last != "" {
		if out, err = jsontext.AppendQuote(append(out, `,"cursor":`...), last); err != nil {
			return nil, fmt.Errorf("encode cursor: %w", err)
		}
	}
	return append(out, '}'), nil
}

// maxCollections is how many collections describeRepo names: each costs a query, and
// people have some dozens.
const maxCollections = 1000

// DescribeRepoParams are the parameters of describeRepo.
type DescribeRepoParams struct {
	Repo string `json:"repo"`
}

// DescribeRepoOutput is the output of describeRepo.
type DescribeRepoOutput struct {
	Handle          syntax.Handle  `json:"handle"`
	DID             syntax.DID     `json:"did"`
	DIDDoc          jsontext.Value `json:"didDoc"`
	Collections     []string       `json:"collections"`
	HandleIsCorrect bool           `json:"handleIsCorrect"`
}

// DescribeRepo is com.atproto.repo.describeRepo.
func (s *Service) DescribeRepo(ctx context.Context, _ auth.Anyone, p DescribeRepoParams) (DescribeRepoOutput, error) {
	a, err := s.find(ctx, p.Repo)
	if err == nil {
		err = available(a)
	}
	if err != nil {
		return DescribeRepoOutput{}, err
	}
	out := DescribeRepoOutput{Handle: a.Handle, DID: a.DID, DIDDoc: a.Document, HandleIsCorrect: a.HandleOK}
	err = s.Store.View(ctx, a.ID, func(v View) (err error) {
		out.Collections, err = v.Collections(maxCollections)
		return err
	})
	if err != nil && !errors.Is(err, ErrNoRepo) {
		return DescribeRepoOutput{}, xrpc.Unavailable(err)
	}
	return out, nil
}

func parseRepo(name string) (syntax.AtIdentifier, error) {
	id, err := syntax.ParseAtIdentifier(name)
	if err != nil {
		return id, xrpc.InvalidRequest("Invalid AT identifier (got %.300q) at $.repo", name)
	}
	return id, nil
}

func parseCollection(name, path string) (syntax.NSID, error) {
	id, err := syntax.ParseNSID(name)
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid NSID (got %.300q) at %s", name, path)
	}
	return id, nil
}

func parseRKey(key, path string) (syntax.RecordKey, error) {
	id, err := syntax.ParseRecordKey(key)
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid record key (got %.300q) at %s", key, path)
	}
	return id, nil
}

func parseCID(text, path string) (cid.Cid, error) {
	id, err := dagcbor.ParseCID(text)
	if err != nil {
		return cid.Undef, xrpc.InvalidRequest("Invalid CID string (got %.300q) at %s", text, path)
	}
	return id, nil
}

// parseCommitCID reads swapCommit: undefined if it is absent.
func parseCommitCID(text *string) (cid.Cid, error) {
	if text == nil {
		return cid.Undef, nil
	}
	return parseCID(*text, "$.swapCommit")
}

// parseNullableCID reads a CID: nil if it is absent, undefined if it is null.
func parseNullableCID(raw jsontext.Value, path string) (*cid.Cid, error) {
	switch raw.Kind() {
	case jsontext.KindInvalid:
		return nil, nil
	case jsontext.KindNull:
		return new(cid.Undef), nil
	case jsontext.KindString:
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, xrpc.InvalidRequest("Invalid CID string at %s", path)
		}
		id, err := parseCID(text, path)
		return &id, err
	default:
		return nil, xrpc.InvalidRequest("Expected string value type at %s", path)
	}
}

// find returns the account that a DID or handle names, whatever its status.
// name is as the client gave it. The error is for the client.
func (s *Service) find(ctx context.Context, name string) (Account, error) {
	id, err := parseRepo(name)
	if err != nil {
		return Account{}, err
	}
	a, err := s.Accounts.Find(ctx, id)
	if err != nil {
		return Account{}, wireError(err, "Could not find repo for DID: "+name)
	}
	return a, nil
}

// available refuses, by name, a repository whose account is not active: its
// content is shown to nobody.
func available(a Account) error { return auth.Viewer{}.Refused(a.DID, a.Status) }

// wireError returns the package's errors as clients see them. noRepo is the message
// if there is no repository. Any other error is a dependency that failed: a 503.
func wireError(err error, noRepo string) error {
	var no *Refusal
	var crowd *CrowdError
	switch {
	case errors.As(err, &no):
		return xrpc.BadRequest(no.Name, no.Text)
	case errors.As(err, &crowd):
		e := xrpc.TooManyRequests(crowd.Wait)
		e.Message = crowd.Error()
		return e
	case errors.Is(err, ErrNoRepo):
		return xrpc.BadRequest("RepoNotFound", noRepo)
	case errors.Is(err, ErrBusy):
		e := xrpc.Unavailable(err)
		e.RetryAfter = busyFor
		return e
	default:
		return xrpc.Unavailable(err)
	}
}
