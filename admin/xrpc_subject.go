package admin

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/xrpc"
)

const (
	typeRepoRef   = "com.atproto.admin.defs#repoRef"
	typeStrongRef = "com.atproto.repo.strongRef"
	typeBlobRef   = "com.atproto.admin.defs#repoBlobRef"
)

// Subject is what a moderation measure is about: an account by its DID, a record
// by URI and CID, or a blob by DID and CID.
type Subject struct {
	Type      string `json:"$type"`
	DID       string `json:"did,omitzero"`
	URI       string `json:"uri,omitzero"`
	CID       string `json:"cid,omitzero"`
	RecordURI string `json:"recordUri,omitzero"`
}

// Measure is com.atproto.admin.defs#statusAttr.
type Measure struct {
	Applied bool   `json:"applied"`
	Ref     string `json:"ref,omitzero"`
}

// UpdateSubjectStatusInput is the input of updateSubjectStatus.
type UpdateSubjectStatusInput struct {
	Subject     Subject  `json:"subject"`
	Takedown    *Measure `json:"takedown,omitzero"`
	Deactivated *Measure `json:"deactivated,omitzero"`
}

// SubjectStatusOutput is the output of updateSubjectStatus and getSubjectStatus. Suspended
// is not in the Lexicon: only this server's operator suspends.
type SubjectStatusOutput struct {
	Subject     Subject  `json:"subject"`
	Takedown    *Measure `json:"takedown,omitzero"`
	Suspended   *Measure `json:"suspended,omitzero"`
	Deactivated *Measure `json:"deactivated,omitzero"`
}

// as returns a context in which a moderator acts.
func as(ctx context.Context, caller auth.ModeratorCaller) context.Context {
	if caller.Service == "" {
		return ctx
	}
	return account.ActingAs(ctx, caller.Service.String())
}

// UpdateSubjectStatus is com.atproto.admin.updateSubjectStatus.
func (s *Service) UpdateSubjectStatus(
	ctx context.Context, caller auth.ModeratorCaller, in UpdateSubjectStatusInput,
) (SubjectStatusOutput, error) {
	ctx = as(ctx, caller)
	if in.Takedown != nil && in.Takedown.Applied && in.Deactivated != nil && !in.Deactivated.Applied {
		return SubjectStatusOutput{}, xrpc.InvalidRequest("Cannot activate and takedown an account at the same time")
	}
	var err error
	switch in.Subject.Type {
	case typeRepoRef:
		err = s.updateAccount(ctx, in)
	case typeStrongRef, typeBlobRef:
		err = s.updateContent(ctx, in)
	default:
		err = xrpc.InvalidRequest("Invalid subject (%s)", in.Subject.Type)
	}
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	return SubjectStatusOutput{Subject: in.Subject, Takedown: in.Takedown}, nil
}

func (s *Service) updateAccount(ctx context.Context, in UpdateSubjectStatusInput) error {
	if in.Subject.DID == "" {
		return missingKey("did")
	}
	did, err := parseDID(in.Subject.DID, "subject.did")
	if err != nil {
		return err
	}
	if in.Takedown == nil && in.Deactivated == nil {
		return wireError(s.repeatStatus(ctx, did))
	}
	if in.Takedown != nil {
		if _, err := s.Takedown(ctx, did, in.Takedown.Applied, in.Takedown.Ref); err != nil {
			return wireError(err)
		}
	}
	if in.Deactivated != nil {
		if _, err := s.Deactivate(ctx, did, in.Deactivated.Applied); err != nil {
			return wireError(err)
		}
	}
	return nil
}

// updateContent changes the status of a record or a blob. A record is meant by
// its URI, whatever its CID: a new version does not lift a takedown.
func (s *Service) updateContent(ctx context.Context, in UpdateSubjectStatusInput) error {
	did, subject, err := in.Subject.content()
	if err != nil || in.Takedown == nil {
		return err
	}
	err = s.TakedownContent(ctx, did, Takedown{Subject: subject, CID: in.Subject.CID, Ref: in.Takedown.Ref}, in.Takedown.Applied)
	if isUnknown(err) {
		return xrpc.BadRequest(xrpc.NameNotFound, "Repo not found")
	}
	return wireError(err)
}

// content returns the account of a record or a blob, and how the store names it.
func (s Subject) content() (did syntax.DID, subject string, err error) {
	if s.CID == "" {
		return "", "", missingKey("cid")
	}
	id, err := dagcbor.ParseCID(s.CID)
	if err != nil {
		return "", "", xrpc.InvalidRequest("Invalid CID at $.subject.cid")
	}
	if s.Type == typeBlobRef {
		if s.DID == "" {
			return "", "", missingKey("did")
		}
		did, err = parseDID(s.DID, "subject.did")
		return did, id.String(), err
	}
	if s.URI == "" {
		return "", "", missingKey("uri")
	}
	return parseRecord(s.URI, "$.subject.uri")
}

func missingKey(key string) error {
	return xrpc.InvalidRequest(`Missing required key "%s" at $.subject`, key)
}

// parseRecord reads the URI of a record, which must name its account by DID.
func parseRecord(raw, where string) (did syntax.DID, key string, err error) {
	uri, err := syntax.ParseATURI(raw)
	if err != nil {
		return "", "", xrpc.InvalidRequest("Invalid AT URI at %s", where)
	}
	did, err = uri.Authority().AsDID()
	if err != nil || uri.Collection() == "" || uri.RecordKey() == "" {
		return "", "", xrpc.InvalidRequest("Invalid AT URI at %s: it must name a record of a DID", where)
	}
	return did, uri.Collection().String() + "/" + uri.RecordKey().String(), nil
}

// GetSubjectStatusParams are the parameters of getSubjectStatus.
type GetSubjectStatusParams struct {
	DID  string `json:"did,omitzero"`
	URI  string `json:"uri,omitzero"`
	Blob string `json:"blob,omitzero"`
}

// GetSubjectStatus is com.atproto.admin.getSubjectStatus.
func (s *Service) GetSubjectStatus(ctx context.Context, _ auth.ModeratorCaller, p GetSubjectStatusParams) (SubjectStatusOutput, error) {
	switch {
	case p.Blob != "":
		return s.blobStatus(ctx, p)
	case p.URI != "":
		return s.recordStatus(ctx, p.URI)
	case p.DID == "":
		return SubjectStatusOutput{}, xrpc.InvalidRequest("No provided subject")
	}
	did, err := parseDID(p.DID, "did")
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	a, err := s.known(ctx, did)
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	out := SubjectStatusOutput{
		Subject:     Subject{Type: typeRepoRef, DID: a.DID.String()},
		Takedown:    &Measure{!a.TakenDownAt.IsZero(), a.TakedownRef},
		Deactivated: &Measure{Applied: !a.DeactivatedAt.IsZero()},
	}
	if !a.SuspendedAt.IsZero() {
		out.Suspended = &Measure{Applied: true}
	}
	return out, nil
}

// blobStatus is the status of a blob that was uploaded, or was taken down.
func (s *Service) blobStatus(ctx context.Context, p GetSubjectStatusParams) (SubjectStatusOutput, error) {
	if p.DID == "" {
		return SubjectStatusOutput{}, xrpc.InvalidRequest("Must provide a did to request blob state")
	}
	did, err := parseDID(p.DID, "did")
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	id, err := dagcbor.ParseCID(p.Blob)
	if err != nil {
		return SubjectStatusOutput{}, xrpc.InvalidRequest("Invalid CID at $.blob")
	}
	c, err := s.content(ctx, did, id.String())
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	if !c.CID.Defined() && c.Takedown == nil {
		return SubjectStatusOutput{}, errSubject()
	}
	return SubjectStatusOutput{Subject: Subject{Type: typeBlobRef, DID: did.String(), CID: id.String()}, Takedown: c.Takedown.measure()}, nil
}

// recordStatus is the status of a record that is there, or was taken down: the answer
// has its CID, or the one that was taken down.
func (s *Service) recordStatus(ctx context.Context, uri string) (SubjectStatusOutput, error) {
	did, key, err := parseRecord(uri, "$.uri")
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	c, err := s.content(ctx, did, key)
	if err != nil {
		return SubjectStatusOutput{}, err
	}
	out := Subject{Type: typeStrongRef, URI: "at://" + did.String() + "/" + key}
	switch {
	case c.CID.Defined():
		out.CID = c.CID.String()
	case c.Takedown != nil && c.Takedown.CID != "":
		out.CID = c.Takedown.CID
	default:
		return SubjectStatusOutput{}, errSubject()
	}
	return SubjectStatusOutput{Subject: out, Takedown: c.Takedown.measure()}, nil
}

func (s *Service) content(ctx context.Context, did syntax.DID, subject string) (Content, error) {
	c, err := s.Store.Content(ctx, did, subject)
	if err != nil {
		return Content{}, xrpc.Unavailable(err)
	}
	return c, nil
}

// known returns the account of a subject. If it is gone, only DID and Measures are set.
func (s *Service) known(ctx context.Context, did syntax.DID) (*account.Account, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		var m account.Measures
		m, err = s.Accounts.MeasuresOf(ctx, did)
		a = &account.Account{DID: did, Measures: m}
	}
	switch {
	case isUnknown(err):
		return nil, errSubject()
	case err != nil:
		return nil, xrpc.Unavailable(err)
	default:
		return a, nil
	}
}

// measure returns a takedown in the Lexicon's form; nil means that none is in
// force.
func (t *Takedown) measure() *Measure {
	if t == nil {
		return &Measure{}
	}
	return &Measure{Applied: true, Ref: t.Ref}
}

func errSubject() error { return xrpc.BadRequest(xrpc.NameNotFound, "Subject not found") }
