package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/xrpc"
)

const (
	typeRepoRef   = "com.atproto.admin.defs#repoRef"
	typeStrongRef = "com.atproto.repo.strongRef"
	typeBlobRef   = "com.atproto.admin.defs#repoBlobRef"
)

// Subject is what a moderation measure is about; here, an account.
type Subject struct {
	Type string `json:"$type"`
	DID  string `json:"did,omitzero"` // a record has none
}

// Measure is com.atproto.admin.defs#statusAttr.
type Measure struct {
	Applied bool   `json:"applied"`
	Ref     string `json:"ref,omitzero"`
}

// StatusInput is what updateSubjectStatus takes.
type StatusInput struct {
	Subject     Subject  `json:"subject"`
	Takedown    *Measure `json:"takedown,omitzero"`
	Deactivated *Measure `json:"deactivated,omitzero"`
}

// StatusOutput is what updateSubjectStatus and getSubjectStatus answer.
type StatusOutput struct {
	Subject     Subject  `json:"subject"`
	Takedown    *Measure `json:"takedown,omitzero"`
	Deactivated *Measure `json:"deactivated,omitzero"`
}

// UpdateSubjectStatus is com.atproto.admin.updateSubjectStatus.
func (s *Service) UpdateSubjectStatus(ctx context.Context, _ auth.ModeratorCaller, in StatusInput) (StatusOutput, error) {
	if in.Subject.Type != typeRepoRef {
		if in.Subject.Type == typeStrongRef || in.Subject.Type == typeBlobRef {
			return StatusOutput{}, xrpc.InvalidRequest("This server keeps no records or blobs yet: the subject must be an account")
		}
		return StatusOutput{}, xrpc.InvalidRequest("Invalid subject (%s)", in.Subject.Type)
	}
	if in.Takedown != nil && in.Takedown.Applied && in.Deactivated != nil && !in.Deactivated.Applied {
		return StatusOutput{}, xrpc.InvalidRequest("Cannot activate and takedown an account at the same time")
	}
	did, err := parseDID(in.Subject.DID, "subject.did")
	if err != nil {
		return StatusOutput{}, err
	}
	if _, err := s.Accounts.ByDID(ctx, did); err != nil {
		return StatusOutput{}, wireError(err)
	}
	if in.Takedown != nil {
		if _, err := s.Takedown(ctx, did, in.Takedown.Applied, in.Takedown.Ref); err != nil {
			return StatusOutput{}, wireError(err)
		}
	}
	if in.Deactivated != nil {
		if _, err := s.Deactivate(ctx, did, in.Deactivated.Applied); err != nil {
			return StatusOutput{}, wireError(err)
		}
	}
	return StatusOutput{Subject: in.Subject, Takedown: in.Takedown}, nil
}

// SubjectParams is what getSubjectStatus takes.
type SubjectParams struct {
	DID  string `json:"did,omitzero"`
	URI  string `json:"uri,omitzero"`
	Blob string `json:"blob,omitzero"`
}

// GetSubjectStatus is com.atproto.admin.getSubjectStatus.
func (s *Service) GetSubjectStatus(ctx context.Context, _ auth.ModeratorCaller, p SubjectParams) (StatusOutput, error) {
	switch {
	case p.URI != "" || p.Blob != "" && p.DID != "":
		return StatusOutput{}, errSubject() // no records, no blobs
	case p.Blob != "":
		return StatusOutput{}, xrpc.InvalidRequest("Must provide a did to request blob state")
	case p.DID == "":
		return StatusOutput{}, xrpc.InvalidRequest("No provided subject")
	}
	did, err := parseDID(p.DID, "did")
	if err != nil {
		return StatusOutput{}, err
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		return StatusOutput{}, errSubject()
	}
	if err != nil {
		return StatusOutput{}, xrpc.Unavailable(err)
	}
	return StatusOutput{
		Subject:     Subject{typeRepoRef, a.DID.String()},
		Takedown:    &Measure{!a.TakendownAt.IsZero(), a.TakedownRef},
		Deactivated: &Measure{Applied: !a.DeactivatedAt.IsZero()},
	}, nil
}

func errSubject() error { return xrpc.BadRequest(xrpc.NameNotFound, "Subject not found") }

// PasswordInput is what updateAccountPassword takes.
type PasswordInput struct {
	DID      string `json:"did"`
	Password string `json:"password"`
}

// UpdateAccountPassword is com.atproto.admin.updateAccountPassword.
func (s *Service) UpdateAccountPassword(ctx context.Context, _ auth.AdminCaller, in PasswordInput) (xrpc.None, error) {
	did, err := parseDID(in.DID, "did")
	if err != nil {
		return xrpc.None{}, err
	}
	if account.CheckNewPassword(in.Password) != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid password length.")
	}
	return xrpc.None{}, wireError(s.SetPassword(ctx, did, in.Password))
}

// DeleteInput is what deleteAccount takes.
type DeleteInput struct {
	DID string `json:"did"`
}

// DeleteAccount is com.atproto.admin.deleteAccount. An account that is gone
// already is no error.
func (s *Service) DeleteAccount(ctx context.Context, _ auth.AdminCaller, in DeleteInput) (xrpc.None, error) {
	did, err := parseDID(in.DID, "did")
	if err != nil {
		return xrpc.None{}, err
	}
	if err := s.Delete(ctx, did); err != nil && !isUnknown(err) {
		return xrpc.None{}, wireError(err)
	}
	return xrpc.None{}, nil
}

// View is com.atproto.admin.defs#accountView.
type View struct {
	DID              syntax.DID    `json:"did"`
	Handle           syntax.Handle `json:"handle"`
	Email            string        `json:"email,omitzero"`
	IndexedAt        string        `json:"indexedAt"`
	EmailConfirmedAt string        `json:"emailConfirmedAt,omitzero"`
	InvitedBy        *Invite       `json:"invitedBy,omitzero"`
	Invites          []Invite      `json:"invites"`
	InvitesDisabled  bool          `json:"invitesDisabled"`
	DeactivatedAt    string        `json:"deactivatedAt,omitzero"`
}

// Invite is com.atproto.server.defs#inviteCode.
type Invite struct {
	Code       string `json:"code"`
	Available  int    `json:"available"`
	Disabled   bool   `json:"disabled"`
	ForAccount string `json:"forAccount"`
	CreatedBy  string `json:"createdBy"`
	CreatedAt  string `json:"createdAt"`
	Uses       []Use  `json:"uses"`
}

// Use is com.atproto.server.defs#inviteCodeUse.
type Use struct {
	UsedBy syntax.DID `json:"usedBy"`
	UsedAt string     `json:"usedAt"`
}

// InfoParams and InfosParams are what getAccountInfo and getAccountInfos take.
type (
	InfoParams struct {
		DID string `json:"did"`
	}
	InfosParams struct {
		DIDs []string `json:"dids"`
	}
	InfosOutput struct {
		Infos []View `json:"infos"`
	}
)

// maxInfos bounds one getAccountInfos.
const maxInfos = 500

// GetAccountInfo is com.atproto.admin.getAccountInfo.
func (s *Service) GetAccountInfo(ctx context.Context, _ auth.ModeratorCaller, p InfoParams) (View, error) {
	did, err := parseDID(p.DID, "did")
	if err != nil {
		return View{}, err
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		return View{}, xrpc.BadRequest(xrpc.NameNotFound, "Account not found")
	}
	if err != nil {
		return View{}, xrpc.Unavailable(err)
	}
	return s.view(ctx, a)
}

// GetAccountInfos is com.atproto.admin.getAccountInfos. Unknown DIDs are left
// out.
func (s *Service) GetAccountInfos(ctx context.Context, _ auth.ModeratorCaller, p InfosParams) (InfosOutput, error) {
	if len(p.DIDs) > maxInfos {
		return InfosOutput{}, xrpc.InvalidRequest("At most %d dids", maxInfos)
	}
	out := InfosOutput{Infos: []View{}}
	for i, raw := range p.DIDs {
		did, err := parseDID(raw, fmt.Sprintf("dids[%d]", i))
		if err != nil {
			return InfosOutput{}, err
		}
		a, err := s.Accounts.ByDID(ctx, did)
		if isUnknown(err) {
			continue
		}
		if err != nil {
			return InfosOutput{}, xrpc.Unavailable(err)
		}
		v, err := s.view(ctx, a)
		if err != nil {
			return InfosOutput{}, err
		}
		out.Infos = append(out.Infos, v)
	}
	return out, nil
}

func (s *Service) view(ctx context.Context, a *account.Account) (View, error) {
	v := View{
		DID: a.DID, Handle: a.ShownHandle(), Email: a.Email, IndexedAt: datetime(a.CreatedAt),
		EmailConfirmedAt: datetime(a.EmailConfirmedAt), DeactivatedAt: datetime(a.DeactivatedAt), Invites: []Invite{},
	}
	own, err := s.Accounts.InviteCodesFor(ctx, a.DID)
	if err != nil {
		return View{}, xrpc.Unavailable(err)
	}
	for _, c := range own {
		v.Invites = append(v.Invites, invite(c))
	}
	if a.InvitedWith != "" {
		codes, err := s.Accounts.InviteCodes(ctx, []string{a.InvitedWith})
		if err != nil {
			return View{}, xrpc.Unavailable(err)
		}
		for _, c := range codes {
			by := invite(c)
			v.InvitedBy = &by
		}
	}
	return v, nil
}

func invite(c account.InviteCode) Invite {
	out := Invite{
		Code: c.Code, Available: c.Available, Disabled: c.Disabled, ForAccount: c.ForAccount, CreatedBy: c.CreatedBy,
		CreatedAt: datetime(c.CreatedAt), Uses: []Use{},
	}
	for _, u := range c.Uses {
		out.Uses = append(out.Uses, Use{u.UsedBy, datetime(u.UsedAt)})
	}
	return out
}

// datetime is a time as the Lexicon has it, "" for one that never was.
func datetime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func parseDID(raw, where string) (syntax.DID, error) {
	did, err := syntax.ParseDID(raw)
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid DID at $.%s", where)
	}
	return did, nil
}

func wireError(err error) error {
	switch {
	case err == nil:
		return nil
	case isUnknown(err):
		return xrpc.BadRequest("AccountNotFound", "Account not found")
	default:
		return xrpc.Unavailable(err)
	}
}
