package hosting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/xrpc"
)

// CreateInput is what createAccount takes.
type CreateInput struct {
	Email             string         `json:"email,omitzero"`
	Handle            string         `json:"handle"`
	DID               string         `json:"did,omitzero"`
	InviteCode        string         `json:"inviteCode,omitzero"`
	VerificationCode  string         `json:"verificationCode,omitzero"`
	VerificationPhone string         `json:"verificationPhone,omitzero"`
	Password          string         `json:"password,omitzero"`
	RecoveryKey       string         `json:"recoveryKey,omitzero"`
	PLCOp             jsontext.Value `json:"plcOp,omitzero"`
}

// CreateOutput is what createAccount answers.
type CreateOutput struct {
	Handle     syntax.Handle  `json:"handle"`
	DID        syntax.DID     `json:"did"`
	DIDDoc     jsontext.Value `json:"didDoc"`
	AccessJwt  string         `json:"accessJwt"`
	RefreshJwt string         `json:"refreshJwt"`
}

// signUps limits new accounts of one client network.
var signUps = ratelimit.Limit{Name: "sign-ups", Points: 100, Window: 5 * time.Minute}

// CreateAccount is com.atproto.server.createAccount.
func (s *Service) CreateAccount(ctx context.Context, caller auth.SignUpCaller, in CreateInput) (CreateOutput, error) {
	if err := xrpc.Admit(ctx, s.Limits, xrpc.ClientOf(ctx).Network(), 1, signUps); err != nil {
		return CreateOutput{}, err
	}
	if len(in.PLCOp) > 0 {
		return CreateOutput{}, xrpc.InvalidRequest(`Unsupported input: "plcOp"`)
	}
	n := NewAccount{
		Handle: in.Handle, Email: in.Email, Password: in.Password, InviteCode: in.InviteCode, RecoveryKey: in.RecoveryKey, Owner: caller.Owner,
	}
	a, err := s.signUp(ctx, in.DID, n)
	if err != nil {
		return CreateOutput{}, wireError(err, in)
	}
	pair, err := s.Sessions.Open(ctx, a)
	if err != nil {
		return CreateOutput{}, xrpc.Unavailable(err)
	}
	xrpc.SetAccount(ctx, a.DID.String())
	return CreateOutput{Handle: a.Handle, DID: a.DID, DIDDoc: a.Document, AccessJwt: pair.Access, RefreshJwt: pair.Refresh}, nil
}

func (s *Service) signUp(ctx context.Context, did string, n NewAccount) (*account.Account, error) {
	if did == "" {
		return s.Create(ctx, n)
	}
	who, err := syntax.ParseDID(did)
	if err != nil {
		return nil, errDID
	}
	return s.MoveIn(ctx, who, n)
}

var errDID = errors.New("not a DID")

// wireError is the package's errors as the Lexicon of createAccount names them.
func wireError(err error, in CreateInput) error {
	var wire *xrpc.Error
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.Is(err, errNoPassword):
		return xrpc.BadRequest("InvalidPassword", "Password is required")
	case errors.Is(err, account.ErrPasswordTooShort):
		return xrpc.BadRequest("InvalidPassword", fmt.Sprintf("Password too short. Minimum length is %d characters.", account.MinNewPassword))
	case errors.Is(err, account.ErrPasswordTooLong):
		return xrpc.BadRequest("InvalidPassword", fmt.Sprintf("Password too long. Maximum length is %d characters.", account.MaxNewPassword))
	case errors.Is(err, account.ErrPasswordForm):
		return xrpc.BadRequest("InvalidPassword", "Password holds a character that cannot be used")
	case errors.Is(err, errClosed), errors.Is(err, errMigrationOnly):
		return xrpc.InvalidRequest("%s", err)
	case errors.Is(err, errInviteMissing):
		return xrpc.BadRequest("InvalidInviteCode", "No invite code provided")
	case errors.Is(err, account.ErrInviteUsed):
		return xrpc.BadRequest("InvalidInviteCode", "Provided invite code not available")
	case errors.Is(err, errNoEmail):
		return xrpc.InvalidRequest("Email is required")
	case errors.Is(err, account.ErrEmail):
		return xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	case errors.Is(err, account.ErrEmailTaken):
		return xrpc.InvalidRequest("Email already taken: %s", in.Email)
	case errors.Is(err, account.ErrHandleTaken):
		return xrpc.BadRequest("HandleNotAvailable", "Handle already taken: "+strings.ToLower(in.Handle))
	case errors.Is(err, account.ErrHandleReserved):
		return xrpc.BadRequest("HandleNotAvailable", account.ErrHandleReserved.Error())
	case errors.Is(err, account.ErrUnsupportedDomain):
		return xrpc.BadRequest("UnsupportedDomain", account.ErrUnsupportedDomain.Error())
	case errors.Is(err, account.ErrHandleForm):
		return xrpc.BadRequest("InvalidHandle", account.ErrHandleForm.Error())
	case errors.Is(err, account.ErrHandleTLD), errors.Is(err, account.ErrHandleCharacters),
		errors.Is(err, account.ErrHandleTooShort), errors.Is(err, account.ErrHandleTooLong):
		return xrpc.BadRequest("InvalidHandle", err.Error())
	case errors.Is(err, errRecoveryKey):
		return xrpc.InvalidRequest("Invalid recoveryKey: expected a did:key")
	case errors.Is(err, errDID):
		return xrpc.InvalidRequest("Invalid DID at $.did")
	case errors.Is(err, errNotOwner):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Missing auth to create account with did: "+in.DID)
	case errors.Is(err, errHandleProof):
		return xrpc.InvalidRequest("External handle did not resolve to DID")
	case errors.Is(err, account.ErrDIDTaken):
		return xrpc.BadRequest("AlreadyExists", "Repo already exists")
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrUnsupported):
		return xrpc.BadRequest("UnresolvableDid", "Could not resolve DID")
	case errors.Is(err, errDirectory):
		e := xrpc.Unavailable(err)
		e.Message = "The PLC directory could not register the account; no account was made, please try again later"
		return e
	case errors.Is(err, errUnsettled):
		e := xrpc.Unavailable(err)
		e.Message = "The PLC directory did not say whether it registered the account; please try again, or to sign in, in some minutes"
		return e
	default:
		return xrpc.Unavailable(err)
	}
}

// Links and Contact are parts of describeServer.
type (
	Links struct {
		PrivacyPolicy  string `json:"privacyPolicy,omitzero"`
		TermsOfService string `json:"termsOfService,omitzero"`
	}
	Contact struct {
		Email string `json:"email,omitzero"`
	}
)

// Description is what describeServer answers.
type Description struct {
	DID                  string   `json:"did"`
	AvailableUserDomains []string `json:"availableUserDomains"`
	InviteCodeRequired   bool     `json:"inviteCodeRequired"`
	BlobUploadLimit      int64    `json:"blobUploadLimit,omitzero"`
	Links                Links    `json:"links"`
	Contact              Contact  `json:"contact"`
}

// DescribeServer is com.atproto.server.describeServer.
func (s *Service) DescribeServer(context.Context, auth.Anyone, xrpc.None) (Description, error) {
	return Description{
		DID: s.DID, AvailableUserDomains: s.Domains, InviteCodeRequired: s.InviteRequired, BlobUploadLimit: s.BlobUploadLimit,
		Links: Links{s.PrivacyPolicyURL, s.TermsOfServiceURL}, Contact: Contact{s.ContactEmail},
	}, nil
}

// DeactivateInput is what deactivateAccount takes.
type DeactivateInput struct {
	DeleteAfter string `json:"deleteAfter,omitzero"`
}

// DeactivateAccount is com.atproto.server.deactivateAccount. No session ends;
// writes are refused from now on.
func (s *Service) DeactivateAccount(ctx context.Context, caller auth.FullOrTakendownCaller, in DeactivateInput) (xrpc.None, error) {
	c := account.StatusChange{Deactivated: new(true)}
	if in.DeleteAfter != "" {
		at, err := syntax.ParseDatetimeLenient(in.DeleteAfter)
		if err != nil {
			return xrpc.None{}, xrpc.InvalidRequest("Invalid datetime at $.deleteAfter")
		}
		c.DeleteAfter = at.Time()
	}
	return s.setStatus(ctx, caller.DID, c, account.EventDeactivated)
}

// ActivateAccount is com.atproto.server.activateAccount: only for who is, by
// their DID document, at home here.
func (s *Service) ActivateAccount(ctx context.Context, caller auth.FullCaller, _ xrpc.None) (xrpc.None, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return xrpc.None{}, statusError(err)
	}
	d, err := s.pointsHere(ctx, a)
	if err != nil {
		return xrpc.None{}, statusError(err)
	}
	if err := s.Documents.SaveDocument(ctx, a.ID, d.Raw, d.Handle() != a.Handle, s.now()); err != nil {
		return xrpc.None{}, xrpc.Unavailable(err)
	}
	return s.setStatus(ctx, caller.DID, account.StatusChange{Deactivated: new(false)}, account.EventActivated)
}

// statusError is an error of an account's change of status for the client.
func statusError(err error) error {
	switch {
	case errors.Is(err, account.ErrNotFound):
		return auth.ErrExpired() // deleted since the caller was proven
	case errors.Is(err, errNotRegistered), errors.Is(err, errRotationKey), errors.Is(err, errEndpoint), errors.Is(err, errSigningKey):
		return xrpc.InvalidRequest("%s", err.Error())
	default:
		return xrpc.Unavailable(err)
	}
}

func (s *Service) setStatus(ctx context.Context, did syntax.DID, c account.StatusChange, kind account.EventKind) (xrpc.None, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err == nil {
		_, err = s.Accounts.SetStatus(ctx, a.ID, c, account.NewEvent(ctx, s.now(), kind, account.ActorOwner))
	}
	if err != nil {
		return xrpc.None{}, statusError(err)
	}
	return xrpc.None{}, nil
}

// StatusOutput is what checkAccountStatus answers: what it takes to see whether
// an account has moved in completely.
type StatusOutput struct {
	Activated          bool   `json:"activated"`
	ValidDID           bool   `json:"validDid"`
	RepoCommit         string `json:"repoCommit"`
	RepoRev            string `json:"repoRev"`
	RepoBlocks         int64  `json:"repoBlocks"`
	IndexedRecords     int64  `json:"indexedRecords"`
	PrivateStateValues int64  `json:"privateStateValues"`
	ExpectedBlobs      int64  `json:"expectedBlobs"`
	ImportedBlobs      int64  `json:"importedBlobs"`
}

// CheckAccountStatus is com.atproto.server.checkAccountStatus.
func (s *Service) CheckAccountStatus(ctx context.Context, caller auth.StandardCaller, _ xrpc.None) (StatusOutput, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if errors.Is(err, account.ErrNotFound) {
		return StatusOutput{}, auth.ErrExpired()
	}
	if err != nil {
		return StatusOutput{}, xrpc.Unavailable(err)
	}
	out := StatusOutput{Activated: a.DeactivatedAt.IsZero()}
	_, err = s.pointsHere(ctx, a)
	out.ValidDID = err == nil
	switch r, err := s.Repos.Summary(ctx, a.ID); {
	case err == nil:
		out.RepoCommit, out.RepoRev = r.Head.CID.String(), r.Head.Rev.String()
		out.RepoBlocks, out.IndexedRecords = r.Blocks(), r.Head.Records
	case !errors.Is(err, repo.ErrNoRepo):
		return StatusOutput{}, xrpc.Unavailable(err)
	}
	if out.ExpectedBlobs, out.ImportedBlobs, err = s.Blobs.Count(ctx, a.ID); err != nil {
		return StatusOutput{}, xrpc.Unavailable(err)
	}
	set, err := s.Prefs.Preferences(ctx, a.DID)
	if err != nil {
		return StatusOutput{}, xrpc.Unavailable(err)
	}
	out.PrivateStateValues = int64(len(set))
	return out, nil
}
