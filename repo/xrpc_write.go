package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/lexicon"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// MaxWriteBody bounds the JSON of createRecord, putRecord and applyWrites, in
// bytes, as the reference does.
const MaxWriteBody = 1_000_000

// Writes with one credential of an account are limited in points.
var (
	writesAnHour = ratelimit.Limit{Name: "repo-write-hour", Points: 5000, Window: time.Hour}
	writesADay   = ratelimit.Limit{Name: "repo-write-day", Points: 35_000, Window: 24 * time.Hour}
)

// Points of a write.
const (
	createPoints = 3
	updatePoints = 2
	deletePoints = 1
)

// admit counts a call against the limits of its caller.
func (s *Service) admit(ctx context.Context, caller auth.StandardCaller, points int) error {
	return auth.Admit(ctx, s.Limits, caller.Holder(), points, writesAnHour, writesADay)
}

// own returns the caller's account, if repo names it and it may write.
func (s *Service) own(ctx context.Context, caller auth.StandardCaller, repo string) (Account, error) {
	name, err := parseRepo(repo)
	if err != nil {
		return Account{}, err
	}
	a, err := s.Accounts.Find(ctx, name)
	switch {
	case errors.Is(err, ErrNoRepo) && repo == caller.DID.String():
		return Account{}, auth.Expired() // deleted since the caller was proven
	case errors.Is(err, ErrNoRepo):
		return Account{}, &xrpc.Error{Status: http.StatusForbidden, Name: "AccountNotFound", Message: "Account not found"}
	case err != nil:
		return Account{}, xrpc.Unavailable(err)
	}
	// As in the reference, the status of the named repository comes first.
	switch err := auth.May(auth.UseWrite, a.Status, caller.Scope); {
	case err != nil:
		return Account{}, err
	case a.DID != caller.DID:
		return Account{}, xrpc.Unauthorized(xrpc.NameAuthRequired, "Authentication Required")
	}
	return a, nil
}

// commit writes ops and maps the errors.
func (s *Service) commit(ctx context.Context, caller auth.StandardCaller, a Account, ops []op, swap cid.Cid) (*commitRef, error) {
	made, err := s.write(ctx, a.ID, ops, swap, s.crowdLimit(caller.Holder()))
	if errors.Is(err, ErrInactive) || errors.Is(err, ErrNoRepo) {
		// It was here and active a moment ago: answer its status now.
		if _, now := s.own(ctx, caller, a.DID.String()); now != nil {
			return nil, now
		}
	}
	if errors.Is(err, ErrInactive) { // it is active again, but was not at the time of the write
		return nil, auth.May(auth.UseWrite, event.StatusDeactivated, caller.Scope)
	}
	if err != nil {
		return nil, wireError(err, "Could not find repo: "+a.DID.String())
	}
	if made != nil {
		request.SetMark(ctx, request.Written)
	}
	return made, nil
}

// CreateRecordInput is the input of createRecord.
type CreateRecordInput struct {
	Repo       string         `json:"repo"`
	Collection string         `json:"collection"`
	RKey       *string        `json:"rkey,omitzero"`
	Validate   *bool          `json:"validate,omitzero"`
	Record     jsontext.Value `json:"record"`
	SwapCommit *string        `json:"swapCommit,omitzero"`
}

// PutRecordInput is the input of putRecord. SwapRecord may be null: there must be no
// record.
type PutRecordInput struct {
	Repo       string         `json:"repo"`
	Collection string         `json:"collection"`
	RKey       string         `json:"rkey"`
	Validate   *bool          `json:"validate,omitzero"`
	Record     jsontext.Value `json:"record"`
	SwapRecord jsontext.Value `json:"swapRecord,omitzero"`
	SwapCommit *string        `json:"swapCommit,omitzero"`
}

// RecordOutput is the output of createRecord and putRecord. Commit is missing if
// nothing was changed.
type RecordOutput struct {
	URI              string     `json:"uri"`
	CID              string     `json:"cid"`
	Commit           *commitRef `json:"commit,omitzero"`
	ValidationStatus string     `json:"validationStatus,omitzero"`
}

// CreateRecord is com.atproto.repo.createRecord. As in the reference, a like, a
// repost, a follow or a block replaces others of the same subject, unless validate is
// false; the other write methods replace nothing.
func (s *Service) CreateRecord(ctx context.Context, calling auth.Scoped[auth.StandardCaller], in CreateRecordInput) (RecordOutput, error) {
	p, err := newProposal(in.Collection, in.RKey, in.Record, in.Validate, "$", "$.record")
	if err != nil {
		return RecordOutput{}, err
	}
	caller, err := calling.For(scope.NeedRepo(in.Collection, scope.Create))
	if err != nil {
		return RecordOutput{}, err
	}
	return s.writeRecord(ctx, caller, in.Repo, actionCreate, p, createPoints, nil, in.SwapCommit)
}

// PutRecord is com.atproto.repo.putRecord.
func (s *Service) PutRecord(ctx context.Context, calling auth.Scoped[auth.StandardCaller], in PutRecordInput) (RecordOutput, error) {
	p, err := newProposal(in.Collection, &in.RKey, in.Record, in.Validate, "$", "$.record")
	if err != nil {
		return RecordOutput{}, err
	}
	// Whether it creates or updates turns out later.
	caller, err := calling.For(scope.NeedRepo(in.Collection, scope.Create|scope.Update))
	if err != nil {
		return RecordOutput{}, err
	}
	swap, err := parseNullableCID(in.SwapRecord, "$.swapRecord")
	if err != nil {
		return RecordOutput{}, err
	}
	return s.writeRecord(ctx, caller, in.Repo, actionPut, p, updatePoints, swap, in.SwapCommit)
}

func (s *Service) writeRecord(
	ctx context.Context, caller auth.StandardCaller, repo string,
	do action, p proposal, points int, swap *cid.Cid, swapCommit *string,
) (RecordOutput, error) {
	at, err := parseCommitCID(swapCommit)
	if err != nil {
		return RecordOutput{}, err
	}
	if err := s.admit(ctx, caller, points); err != nil {
		return RecordOutput{}, err
	}
	a, err := s.own(ctx, caller, repo)
	if err != nil {
		return RecordOutput{}, err
	}
	if do == actionPut {
		if err := s.renewBlobs(ctx, a.ID, &p); err != nil {
			return RecordOutput{}, wireError(err, "")
		}
	}
	o, err := s.prepare(a.DID, do, p)
	if err != nil {
		return RecordOutput{}, wireError(err, "")
	}
	o.swap, o.replaces = swap, do == actionCreate && (p.validate == nil || *p.validate)
	made, err := s.commit(ctx, caller, a, []op{o}, at)
	if err != nil {
		return RecordOutput{}, err
	}
	return RecordOutput{URI: o.uri(a.DID), CID: o.cid.String(), Commit: made, ValidationStatus: o.status}, nil
}

// collectionProfile is the collection of profiles.
const collectionProfile = "app.bsky.actor.profile"

// renewBlobs writes references to pictures of a profile in today's form. A profile
// from before 2023 that came with an import has the old form, or one whose size is
// -1; an app that edits the profile sends it again.
func (s *Service) renewBlobs(ctx context.Context, accountID int64, p *proposal) error {
	if p.collection != collectionProfile {
		return nil
	}
	record, err := p.decode()
	if err != nil {
		return err
	}
	refs, _ := s.Lexicons.Blobs(collectionProfile, record)
	old := slices.DeleteFunc(refs, func(b lexicon.BlobRef) bool {
		return !b.Legacy && b.Size >= 0 || b.Path != ".avatar" && b.Path != ".banner"
	})
	if len(old) == 0 {
		return nil
	}
	err = s.Store.View(ctx, accountID, func(v View) error {
		if _, err := v.Record(collectionProfile + "/" + p.rkey.String()); err != nil {
			return err
		}
		for _, b := range old {
			found, err := v.Blob(b.CID)
			if errors.Is(err, ErrNoBlob) {
				return p.refuse("Blob not found")
			}
			if err != nil {
				return err
			}
			record[b.Path[1:]] = map[string]any{typeKey: "blob", "ref": b.CID, "mimeType": b.MimeType, "size": found.Size}
		}
		return nil
	})
	if errors.Is(err, ErrNoRecord) {
		return nil // a new profile may have no old reference: validation refuses it
	}
	if err == nil {
		p.json, err = dagcbor.ToJSON(record)
	}
	return err
}

// DeleteRecordInput is the input of deleteRecord.
type DeleteRecordInput struct {
	Repo       string  `json:"repo"`
	Collection string  `json:"collection"`
	RKey       string  `json:"rkey"`
	SwapRecord *string `json:"swapRecord,omitzero"`
	SwapCommit *string `json:"swapCommit,omitzero"`
}

// DeleteRecordOutput is the output of deleteRecord: no commit if there was no such
// record.
type DeleteRecordOutput struct {
	Commit *commitRef `json:"commit,omitzero"`
}

// DeleteRecord is com.atproto.repo.deleteRecord.
func (s *Service) DeleteRecord(
	ctx context.Context, calling auth.Scoped[auth.StandardCaller], in DeleteRecordInput,
) (DeleteRecordOutput, error) {
	p, err := newProposal(in.Collection, &in.RKey, nil, nil, "$", "")
	if err != nil {
		return DeleteRecordOutput{}, err
	}
	caller, err := calling.For(scope.NeedRepo(in.Collection, scope.Delete))
	if err != nil {
		return DeleteRecordOutput{}, err
	}
	o := op{action: actionRemove, collection: p.collection.String(), rkey: p.rkey.String()}
	if in.SwapRecord != nil {
		id, err := parseCID(*in.SwapRecord, "$.swapRecord")
		if err != nil {
			return DeleteRecordOutput{}, err
		}
		o.swap = &id
	}
	at, err := parseCommitCID(in.SwapCommit)
	if err != nil {
		return DeleteRecordOutput{}, err
	}
	if err := s.admit(ctx, caller, deletePoints); err != nil {
		return DeleteRecordOutput{}, err
	}
	a, err := s.own(ctx, caller, in.Repo)
	if err != nil {
		return DeleteRecordOutput{}, err
	}
	made, err := s.commit(ctx, caller, a, []op{o}, at)
	return DeleteRecordOutput{made}, err
}

// ApplyWritesInput is the input of applyWrites; each of Writes is a WriteInput.
type ApplyWritesInput struct {
	Repo       string           `json:"repo"`
	Validate   *bool            `json:"validate,omitzero"`
	Writes     []jsontext.Value `json:"writes"`
	SwapCommit *string          `json:"swapCommit,omitzero"`
}

// WriteInput is one of applyWrites' writes. Its type decides which fields it must
// have.
type WriteInput struct {
	Type       *string        `json:"$type,omitzero"`
	Collection *string        `json:"collection,omitzero"`
	RKey       *string        `json:"rkey,omitzero"`
	Value      jsontext.Value `json:"value,omitzero"`
}

// ApplyWritesOutput is the output of applyWrites, WriteResult one of its results.
type (
	ApplyWritesOutput struct {
		Commit  *commitRef    `json:"commit,omitzero"`
		Results []WriteResult `json:"results"`
	}
	WriteResult struct {
		Type             string `json:"$type"`
		URI              string `json:"uri,omitzero"`
		CID              string `json:"cid,omitzero"`
		ValidationStatus string `json:"validationStatus,omitzero"`
	}
)

// typeApplyWrites begins the types of writes and of results.
const typeApplyWrites = "com.atproto.repo.applyWrites#"

// decodeWrite reads one of applyWrites' writes.
var decodeWrite = xrpc.Decoder[WriteInput]()

// ApplyWrites is com.atproto.repo.applyWrites.
func (s *Service) ApplyWrites(
	ctx context.Context, calling auth.Scoped[auth.StandardCaller], in ApplyWritesInput,
) (ApplyWritesOutput, error) {
	kinds, proposals, points, err := in.parse()
	if err != nil {
		return ApplyWritesOutput{}, err
	}
	caller, err := calling.For(needsOf(kinds, proposals)...)
	if err != nil {
		return ApplyWritesOutput{}, err
	}
	at, err := parseCommitCID(in.SwapCommit)
	if err != nil {
		return ApplyWritesOutput{}, err
	}
	// Even no writes make a commit.
	if err := s.admit(ctx, caller, max(points, deletePoints)); err != nil {
		return ApplyWritesOutput{}, err
	}
	a, err := s.own(ctx, caller, in.Repo)
	if err != nil {
		return ApplyWritesOutput{}, err
	}
	if len(proposals) > MaxWrites {
		return ApplyWritesOutput{}, xrpc.InvalidRequest("Too many writes. Max: %d", MaxWrites)
	}
	ops := make([]op, len(proposals))
	out := ApplyWritesOutput{Results: make([]WriteResult, len(proposals))}
	for i, p := range proposals {
		o := op{action: actionDelete, collection: p.collection.String(), rkey: p.rkey.String()}
		result := WriteResult{Type: typeApplyWrites + "deleteResult"}
		if kinds[i] != actionDelete {
			if o, err = s.prepare(a.DID, kinds[i], p); err != nil {
				return ApplyWritesOutput{}, wireError(err, "")
			}
			result = WriteResult{typeApplyWrites + "createResult", o.uri(a.DID), o.cid.String(), o.status}
			if kinds[i] == actionUpdate {
				result.Type = typeApplyWrites + "updateResult"
			}
		}
		ops[i], out.Results[i] = o, result
	}
	out.Commit, err = s.commit(ctx, caller, a, ops, at)
	return out, err
}

// needsOf returns what an OAuth client needs for all of the writes, a need for each
// collection. No writes make a commit too, so they need all.
func needsOf(kinds []action, proposals []proposal) []scope.Need {
	if len(proposals) == 0 {
		return []scope.Need{scope.NeedRepo(scope.Any, scope.AllActions)}
	}
	actions := map[string]scope.Actions{}
	for i, p := range proposals {
		switch kinds[i] { //nolint:exhaustive // others need everything
		case actionCreate:
			actions[p.collection.String()] |= scope.Create
		case actionUpdate:
			actions[p.collection.String()] |= scope.Update
		case actionDelete:
			actions[p.collection.String()] |= scope.Delete
		default:
			actions[p.collection.String()] |= scope.AllActions
		}
	}
	needs := make([]scope.Need, 0, len(actions))
	for _, collection := range slices.Sorted(maps.Keys(actions)) {
		needs = append(needs, scope.NeedRepo(collection, actions[collection]))
	}
	return needs
}

// parse reads the writes. It only counts those beyond MaxWrites, since the account is
// checked first.
func (in ApplyWritesInput) parse() (kinds []action, proposals []proposal, points int, err error) {
	for i, raw := range in.Writes {
		at := fmt.Sprintf("$.writes[%d]", i)
		var w WriteInput
		if raw.Kind() == '{' {
			if w, err = decodeWrite(raw, at); err != nil {
				return nil, nil, 0, err
			}
		}
		if w.Type == nil {
			return nil, nil, 0, xrpc.WrongType(`an object which includes the "$type" property`, raw, at)
		}
		var do action
		switch *w.Type {
		case typeApplyWrites + "create":
			do = actionCreate
			points += createPoints
		case typeApplyWrites + "update":
			do = actionUpdate
			points += updatePoints
		case typeApplyWrites + "delete":
			do = actionDelete
			points += deletePoints
		default:
			return nil, nil, 0, xrpc.InvalidRequest(
				`Expected one of "%[1]screate", "%[1]supdate" or "%[1]sdelete" (got %.200[2]q) at %[3]s.$type`, typeApplyWrites, *w.Type, at)
		}
		switch {
		case w.Collection == nil:
			return nil, nil, 0, xrpc.InvalidRequest("Missing required key \"collection\" at %s", at)
		case w.RKey == nil && do != actionCreate:
			return nil, nil, 0, xrpc.InvalidRequest("Missing required key \"rkey\" at %s", at)
		case w.Value == nil && do != actionDelete:
			return nil, nil, 0, xrpc.InvalidRequest("Missing required key \"value\" at %s", at)
		case do == actionDelete:
			w.Value = nil
		}
		p, err := newProposal(*w.Collection, w.RKey, w.Value, in.Validate, at, at+".value")
		if err != nil {
			return nil, nil, 0, err
		}
		p.at = at
		kinds, proposals = append(kinds, do), append(proposals, p)
	}
	return kinds, proposals, points, nil
}

// newProposal parses what a client proposes, at path in the input; a nil record means
// that there is none.
func newProposal(collection string, rkey *string, record jsontext.Value, validate *bool, path, recordPath string) (p proposal, err error) {
	if p.collection, err = parseCollection(collection, path+".collection"); err != nil {
		return proposal{}, err
	}
	if rkey != nil {
		if p.rkey, err = parseRKey(*rkey, path+".rkey"); err != nil {
			return proposal{}, err
		}
	}
	if record != nil && record.Kind() != '{' {
		return proposal{}, xrpc.WrongType("object", record, recordPath)
	}
	p.json, p.validate = record, validate
	return p, nil
}
