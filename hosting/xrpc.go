package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// CreateAccountInput is the input of createAccount.
type CreateAccountInput struct {
	Email             string         `json:"email,omitzero"`
	Handle            string         `json:"handle"`
	DID               *string        `json:"did,omitzero"`
	InviteCode        string         `json:"inviteCode,omitzero"`
	VerificationCode  string         `json:"verificationCode,omitzero"`
	VerificationPhone string         `json:"verificationPhone,omitzero"`
	Password          string         `json:"password,omitzero"`
	RecoveryKey       string         `json:"recoveryKey,omitzero"`
	PLCOp             jsontext.Value `json:"plcOp,omitzero"`
}

// CreateAccountOutput is the answer of createAccount.
type CreateAccountOutput struct {
	Handle     syntax.Handle  `json:"handle"`
	DID        syntax.DID     `json:"did"`
	DIDDoc     jsontext.Value `json:"didDoc,omitzero"`
	AccessJwt  string         `json:"accessJwt"`
	RefreshJwt string         `json:"refreshJwt"`
}

// signUps limits new accounts by one client network.
var signUps = ratelimit.Limit{Name: "sign-ups", Points: 100, Window: 5 * time.Minute}

// CreateAccount is com.atproto.server.createAccount.
func (s *Service) CreateAccount(ctx context.Context, caller auth.SignUpCaller, in CreateAccountInput) (CreateAccountOutput, error) {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, signUps); err != nil {
		return CreateAccountOutput{}, err
	}
	if len(in.PLCOp) > 0 {
		return CreateAccountOutput{}, xrpc.InvalidRequest(`Unsupported input: "plcOp"`)
	}
	n := NewAccount{
		Handle: in.Handle, Email: in.Email, Password: in.Password, InviteCode: in.InviteCode, RecoveryKey: in.RecoveryKey, Owner: caller.Owner,
	}
	a, err := s.signUp(ctx, in.DID, n)
	if err != nil {
		return CreateAccountOutput{}, wireError(err, in)
	}
	source := request.Source(request.SourceCreateAccount)
	request.Event(ctx, request.EventAccountCreated, a.DID.String(), source,
		slog.Bool("invited", in.InviteCode != ""), slog.Bool("deactivated", in.DID != nil))
	pair, err := s.Sessions.OpenFirst(ctx, a)
	if err != nil {
		return CreateAccountOutput{}, xrpc.Unavailable(err)
	}
	request.SetAccount(ctx, a.DID.String())
	request.Event(ctx, request.EventSessionCreated, a.DID.String(), source)
	return CreateAccountOutput{Handle: a.Handle, DID: a.DID, DIDDoc: s.ShownDocument(a), AccessJwt: pair.Access, RefreshJwt: pair.Refresh}, nil
}

func (in CreateAccountInput) did() string {
	if in.DID == nil {
		return ""
	}
	return *in.DID
}

func (s *Service) signUp(ctx context.Context, did *string, n NewAccount) (*account.Account, error) {
	if did == nil {
		return s.Create(ctx, n)
	}
	who, err := syntax.ParseDID(*did)
	if err != nil {
		return nil, errDID
	}
	return s.MoveIn(ctx, who, n)
}

var errDID = errors.New("not a DID")

// wireError returns the package's errors as the Lexicon of createAccount names
// them.
func wireError(err error, in CreateAccountInput) error {
	switch {
	case errors.Is(err, ErrNoPassword):
		return xrpc.BadRequest("InvalidPassword", "Password is required")
	case errors.Is(err, account.ErrPasswordTooShort):
		return xrpc.BadRequest("InvalidPassword", fmt.Sprintf("Password too short. Minimum length is %d characters.", account.MinNewPassword))
	case errors.Is(err, account.ErrPasswordTooLong):
		return xrpc.BadRequest("InvalidPassword", fmt.Sprintf("Password too long. Maximum length is %d characters.", account.MaxNewPassword))
	case errors.Is(err, account.ErrPasswordForm):
		return xrpc.BadRequest("InvalidPassword", "Password holds a character that cannot be used")
	case errors.Is(err, ErrClosed), errors.Is(err, ErrMigrationOnly):
		return xrpc.InvalidRequest("%s", err)
	case errors.Is(err, ErrManySignUps):
		e := xrpc.Unavailable(err) // a 429: it has a limit's error
		e.Message = ErrManySignUps.Error()
		return e
	case errors.Is(err, ErrInviteMissing):
		return xrpc.BadRequest("InvalidInviteCode", "No invite code provided")
	case errors.Is(err, account.ErrInviteUsed):
		return xrpc.BadRequest("InvalidInviteCode", "Provided invite code not available")
	case errors.Is(err, ErrNoEmail):
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
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Missing auth to create account with did: "+in.did())
	case errors.Is(err, account.ErrTakenDown):
		return auth.TakenDown()
	case errors.Is(err, ErrHandleProof):
		return xrpc.InvalidRequest("External handle did not resolve to DID")
	case errors.Is(err, account.ErrDIDTaken):
		return xrpc.BadRequest("AlreadyExists", "Repo already exists")
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrUnsupported), errors.Is(err, identity.ErrMalformed):
		return xrpc.BadRequest("UnresolvableDid", "Could not resolve DID")
	case errors.Is(err, ErrDirectory):
		e := xrpc.Unavailable(err)
		e.Message = "The PLC directory could not register the account; no account was made, please try again later"
		return e
	case errors.Is(err, ErrUnsettled):
		e := xrpc.Unavailable(err)
		e.Message = "The PLC directory did not confirm whether it registered the account; please try again, or to sign in, in some minutes"
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

// DescribeServerOutput is the answer of describeServer.
type DescribeServerOutput struct {
	DID                  string   `json:"did"`
	AvailableUserDomains []string `json:"availableUserDomains"`
	InviteCodeRequired   bool     `json:"inviteCodeRequired"`
	BlobUploadLimit      int64    `json:"blobUploadLimit,omitzero"`
	Links                Links    `json:"links"`
	Contact              Contact  `json:"contact"`
}

// DescribeServer is com.atproto.server.describeServer.
func (s *Service) DescribeServer(context.Context, auth.Anyone, xrpc.None) (DescribeServerOutput, error) {
	return DescribeServerOutput{
		DID: s.DID, AvailableUserDomains: s.Domains, InviteCodeRequired: s.InviteRequired, BlobUploadLimit: s.BlobUploadLimit,
		Links: Links{s.PrivacyPolicyURL, s.TermsOfServiceURL}, Contact: Contact{s.ContactEmail},
	}, nil
}

// DeactivateAccountInput is the input of deactivateAccount.
type DeactivateAccountInput struct {
	DeleteAfter *string `json:"deleteAfter,omitzero"`
}

// DeactivateAccount is com.atproto.server.deactivateAccount. No session ends;
// writes are refused from now on. deleteAfter is a wish, as in the Lexicon: an
// access token alone does not delete, so the account stays for DeleteGrace, and its
// owner is notified.
func (s *Service) DeactivateAccount(ctx context.Context, caller auth.FullOrTakenDownCaller, in DeactivateAccountInput) (xrpc.None, error) {
	if caller.IsOAuth() && in.DeleteAfter != nil {
		return xrpc.None{}, errDeleteAfter()
	}
	var after time.Time
	if in.DeleteAfter != nil {
		at, err := syntax.ParseDatetimeLenient(*in.DeleteAfter)
		if err != nil {
			return xrpc.None{}, xrpc.InvalidRequest("Invalid datetime at $.deleteAfter")
		}
		after = at.Time().UTC()
		if soonest := s.now().Add(s.DeleteGrace); after.Before(soonest) {
			after = soonest
		}
	}
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err == nil {
		err = s.Deactivate(ctx, a, after)
	}
	return xrpc.None{}, StatusError(err)
}

// ActivateAccount is com.atproto.server.activateAccount: only for an account whose
// DID document names this server.
func (s *Service) ActivateAccount(ctx context.Context, caller auth.FullCaller, _ xrpc.None) (xrpc.None, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err == nil {
		err = s.Activate(ctx, a, account.NewEntry(ctx, s.now(), account.EntryActivated, account.ActorOwner))
	}
	return xrpc.None{}, StatusError(err)
}

// StatusError returns an error of a change of an account's status as the client
// sees it.
func StatusError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, account.ErrNotFound):
		return auth.Expired() // deleted since the caller was proven
	case errors.Is(err, account.ErrTakenDown):
		return auth.TakenDown()
	case errors.Is(err, errNotRegistered), errors.Is(err, errRotationKey), errors.Is(err, errEndpoint), errors.Is(err, errSigningKey):
		return xrpc.InvalidRequest("%s", err.Error())
	default:
		return xrpc.Unavailable(err)
	}
}

// CheckAccountStatusOutput is the answer of checkAccountStatus: it shows whether an
// account has moved in completely.
type CheckAccountStatusOutput struct {
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
func (s *Service) CheckAccountStatus(ctx context.Context, caller auth.StandardCaller, _ xrpc.None) (CheckAccountStatusOutput, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if errors.Is(err, account.ErrNotFound) {
		return CheckAccountStatusOutput{}, auth.Expired()
	}
	if err != nil {
		return CheckAccountStatusOutput{}, xrpc.Unavailable(err)
	}
	is, err := s.Arrival(ctx, a)
	if err != nil {
		return CheckAccountStatusOutput{}, xrpc.Unavailable(err)
	}
	_, wrong := s.pointsHere(ctx, a)
	out := CheckAccountStatusOutput{
		Activated: a.DeactivatedAt.IsZero(), ValidDID: wrong == nil, PrivateStateValues: int64(is.Preferences),
		ExpectedBlobs: is.Expected, ImportedBlobs: is.There,
	}
	if is.HasRepo {
		out.RepoCommit, out.RepoRev = is.Repo.Head.CID.String(), is.Repo.Head.Rev.String()
		out.RepoBlocks, out.IndexedRecords = is.Repo.Blocks(), is.Repo.Head.Records
	}
	return out, nil
}

// CheckSignupQueueOutput is the output of checkSignupQueue.
type CheckSignupQueueOutput struct {
	Activated bool `json:"activated"`
}

// CheckSignupQueue is com.atproto.temp.checkSignupQueue: no owner of a session waits here to
// be let in. OAuth clients get no answer, as from the reference.
func (*Service) CheckSignupQueue(context.Context, auth.StandardCaller, xrpc.None) (CheckSignupQueueOutput, error) {
	return CheckSignupQueueOutput{Activated: true}, nil
}

// errDeleteAfter is the answer to an OAuth client that sets a date of deletion: only the
// owner does.
func errDeleteAfter() error {
	return &xrpc.Error{
		Status: http.StatusForbidden, Name: xrpc.NameForbidden,
		Message: "An OAuth client cannot ask for a deletion: leave out deleteAfter",
	}
}
