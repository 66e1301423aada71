package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/control"
	"nestbox/hosting"
	"nestbox/request"
	"nestbox/session"
)

// The arguments of commands. Account is a DID, a handle or an e-mail address.
type (
	CreateArgs struct {
		Handle      string `json:"handle"`
		Email       string `json:"email"`
		Password    string `json:"password"`
		RecoveryKey string `json:"recoveryKey"`
	}
	AccountArgs struct {
		Account string `json:"account"`
	}
	PasswordArgs struct {
		Account  string `json:"account"`
		Password string `json:"password"`
	}
	SignOutArgs struct {
		Account      string `json:"account"`
		AppPasswords bool   `json:"appPasswords"`
	}
	TakedownArgs struct {
		Account string `json:"account"`
		Ref     string `json:"ref"`
	}
	ListArgs struct {
		After int64 `json:"after"`
	}
	SessionArgs struct {
		Account string `json:"account"`
		ID      int64  `json:"id"`
	}
	KeyArgs struct {
		ID string `json:"kid"`
	}
)

// AccountLine is an account as lists show it.
type AccountLine struct {
	DID       string `json:"did"`
	Handle    string `json:"handle"`
	Email     string `json:"email"`
	Status    string `json:"status"`
	CreatedAt string `json:"createdAt"`
	// Password is set if the command generated one.
	Password string `json:"password,omitempty"`
	// AnnouncementWaits: the change took effect, and the network hears of it once the event log
	// has jumped.
	AnnouncementWaits bool `json:"announcementWaits,omitempty"`
}

// AccountPage is one page of accounts; Next is where the next begins, 0 at the
// end.
type AccountPage struct {
	Accounts []AccountLine `json:"accounts"`
	Next     int64         `json:"next"`
}

// SessionLine is a session as lists show it.
type SessionLine struct {
	ID          int64  `json:"id"`
	CreatedAt   string `json:"createdAt"`
	LastUsedAt  string `json:"lastUsedAt"`
	ExpiresAt   string `json:"expiresAt"`
	Client      string `json:"client"`
	UserAgent   string `json:"userAgent"`
	Network     string `json:"network"`
	AppPassword string `json:"appPassword,omitempty"`
	// ClientID and Scope are those of an OAuth client: what it may do.
	ClientID  string `json:"clientId,omitempty"`
	Scope     string `json:"scope,omitempty"`
	Refreshes int64  `json:"refreshes"`
}

// BrowserLine is a browser on which an account is signed in to the pages.
type BrowserLine struct {
	ID         int64  `json:"id"`
	CreatedAt  string `json:"createdAt"`
	LastUsedAt string `json:"lastUsedAt"`
	Client     string `json:"client"`
	UserAgent  string `json:"userAgent"`
	Network    string `json:"network"`
	// TrustedUntil is until when it needs no second factor; empty if it needs one.
	TrustedUntil string `json:"trustedUntil,omitempty"`
}

// EntryLine is one entry of an account's trail.
type EntryLine struct {
	At             string `json:"at"`
	Kind           string `json:"kind"`
	By             string `json:"by"`
	Session        int64  `json:"session,omitempty"`
	Reason         string `json:"reason,omitempty"`
	Network        string `json:"network,omitempty"`
	UserAgent      string `json:"userAgent,omitempty"`
	OtherNetwork   string `json:"otherNetwork,omitempty"`
	OtherUserAgent string `json:"otherUserAgent,omitempty"`
}

// AccountInfo is all that `nestbox account info` shows.
type AccountInfo struct {
	AccountLine

	EmailConfirmed bool          `json:"emailConfirmed"`
	EmailFactor    bool          `json:"emailAuthFactor"`
	Notices        bool          `json:"notices"`
	TakedownRef    string        `json:"takedownRef,omitempty"`
	AppPasswords   []string      `json:"appPasswords"`
	Sessions       []SessionLine `json:"sessions"`
	Browsers       []BrowserLine `json:"browsers"`
	Trail          []EntryLine   `json:"trail"`
}

// Ended is how many sessions a command ended.
type Ended struct {
	Sessions int `json:"sessions"`
}

// Done is the result of a command that has none.
type Done struct{}

// command answers a command as the operator, unless ctx names another actor.
func command[A, R any](c control.Command[A, R], run func(context.Context, A) (R, error)) control.Entry {
	return control.Handle(c, func(ctx context.Context, args A) (R, error) {
		if _, named := account.ActorIn(ctx); !named {
			ctx = account.ActingAs(ctx, operator)
		}
		return run(ctx, args)
	})
}

// Do runs a command in this process, by the actor that ctx names.
func Do[A, R any](ctx context.Context, s *Service, c control.Command[A, R], args A) (result R, err error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return result, fmt.Errorf("encode arguments: %w", err)
	}
	out, err := s.Commands()[string(c)](ctx, raw)
	if err != nil {
		return result, err
	}
	result, ok := out.(R)
	if !ok {
		return result, fmt.Errorf("%s returned a %T", c, out)
	}
	return result, nil
}

// Commands are the commands by name.
func (s *Service) Commands() map[string]control.Func {
	return control.Table(
		command(CmdAccountCreate, s.createAccount),
		command(CmdAccountList, s.listAccounts),
		command(CmdAccountInfo, s.accountInfo),
		command(CmdAccountPassword, s.setPassword),
		command(CmdAccountSignout, s.signOut),
		command(CmdAccountTakedown, func(ctx context.Context, a TakedownArgs) (AccountLine, error) {
			return s.moderate(ctx, a.Account, func(did syntax.DID) (*account.Account, error) { return s.Takedown(ctx, did, true, a.Ref) })
		}),
		command(CmdAccountUntakedown, func(ctx context.Context, a AccountArgs) (AccountLine, error) {
			return s.moderate(ctx, a.Account, func(did syntax.DID) (*account.Account, error) { return s.Takedown(ctx, did, false, "") })
		}),
		command(CmdAccountSuspend, s.suspend(true)),
		command(CmdAccountUnsuspend, s.suspend(false)),
		command(CmdAccountDelete, func(ctx context.Context, a AccountArgs) (Done, error) {
			acc, err := s.find(ctx, a.Account)
			if err != nil {
				return Done{}, err
			}
			return Done{}, s.Delete(ctx, acc.DID)
		}),
		command(CmdAccountNotices, s.setNotices),
		command(CmdAccountCodes, s.setFactor),
		command(CmdAccountFactors, s.factors),
		command(CmdAccountCode, s.giveCode),
		command(CmdAccountSearch, s.searchAccounts),
		command(CmdAccountHandle, s.setHandle),
		command(CmdAccountReset, s.mailReset),
		command(CmdAccountInvites, s.setOwnInvites),
		command(CmdAccountEmail, s.setEmail),
		command(CmdAccountMail, s.sendMail),
		command(CmdHealth, s.health),
		command(CmdDoctor, s.doctor),
		command(CmdIdentityShow, s.showIdentity),
		command(CmdIdentityRepair, s.repairIdentity),
		command(CmdIdentityRotate, s.rotateSigningKey),
		command(CmdInviteCreate, s.createInvites),
		command(CmdInviteList, s.listInvites),
		command(CmdInviteDisable, s.disableInviteCommand),
		command(CmdRepoDrop, s.dropRecord),
		command(CmdTakedownSet, s.setTakedown),
		command(CmdTakedownList, s.listTakedowns),
		command(CmdAudit, s.listAudit),
		command(CmdAdminAdd, s.addRole),
		command(CmdAdminList, s.listRoles),
		command(CmdAdminRemove, s.removeRole),
		command(CmdMailTest, s.testMail),
		command(CmdSessionList, s.listSessions),
		command(CmdSessionRevoke, s.revokeSession),
		command(CmdFirehoseStatus, s.firehoseStatus),
		command(CmdFirehoseJump, s.firehoseJump),
		command(CmdFirehoseDisconnect, s.disconnect),
		command(CmdMailRetry, s.retryMail),
		command(CmdClientList, s.listClients),
		command(CmdClientEnd, s.endClient),
		command(CmdClientFetch, s.fetchClient),
		command(CmdRelayStatus, s.relayStatus),
		command(CmdRelayCrawl, s.askRelay),
		command(CmdStats, s.stats),
		command(CmdKeysList, s.listKeys),
		command(CmdKeysRotate, s.rotateKey),
		command(CmdKeysRetire, func(ctx context.Context, a KeyArgs) (Done, error) {
			if err := s.Store.Note(ctx, s.action(ctx, ActionKeyRetired, "", a.ID, "")); err != nil {
				return Done{}, err
			}
			return Done{}, s.Keyring.Retire(a.ID)
		}),
	)
}

// Key is one of the server's own keys.
type Key struct {
	auth.KeyInfo

	// Purpose is PurposeSession or PurposePLC.
	Purpose string `json:"purpose"`
}

// What the server's own keys are for: signing session tokens, or operations of the
// accounts' DIDs; such a key's id is its did:key, and its age is unknown.
const (
	PurposeSession = "session"
	PurposePLC     = "plc-rotation"
)

func (s *Service) listKeys(context.Context, Done) (keys []Key, err error) {
	for _, k := range s.Keyring.Keys() {
		keys = append(keys, Key{k, PurposeSession})
	}
	rotation, err := s.Hosting.RotationKey.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read rotation key: %w", err)
	}
	return append(keys, Key{auth.KeyInfo{ID: rotation.DIDKey(), Signing: true, Configured: s.RotationConfigured}, PurposePLC}), nil
}

func (s *Service) find(ctx context.Context, who string) (*account.Account, error) {
	a, err := s.Find(ctx, who)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", who, err)
	}
	return a, nil
}

func (s *Service) change(ctx context.Context, who string, do func(*account.Account) (*account.Account, error)) (AccountLine, error) {
	a, err := s.find(ctx, who)
	if err != nil {
		return AccountLine{}, err
	}
	if a, err = do(a); err != nil {
		return AccountLine{}, err
	}
	return accountLine(a), nil
}

// moderate changes the measures against a DID. The operator names an account, or the DID of one
// that is gone.
func (s *Service) moderate(ctx context.Context, who string, do func(syntax.DID) (*account.Account, error)) (AccountLine, error) {
	did, err := s.Subject(ctx, who)
	if err != nil {
		return AccountLine{}, err
	}
	was, err := s.Accounts.ByDID(ctx, did)
	if err != nil && !isUnknown(err) {
		return AccountLine{}, err
	}
	a, err := do(did)
	if err != nil {
		return AccountLine{}, fmt.Errorf("%q: %w", who, err)
	}
	line := accountLine(a)
	line.AnnouncementWaits = was != nil && account.Urgent(was, a) && s.Held() != nil
	return line, nil
}

func (s *Service) suspend(applied bool) func(context.Context, AccountArgs) (AccountLine, error) {
	return func(ctx context.Context, a AccountArgs) (AccountLine, error) {
		return s.moderate(ctx, a.Account, func(did syntax.DID) (*account.Account, error) { return s.Suspend(ctx, did, applied) })
	}
}

func (s *Service) createAccount(ctx context.Context, a CreateArgs) (AccountLine, error) {
	made := ""
	if a.Password == "" {
		made = newPassword()
		a.Password = made
	}
	acc, err := s.Hosting.Create(ctx, hosting.NewAccount{
		Handle: a.Handle, Email: a.Email, Password: a.Password, RecoveryKey: a.RecoveryKey, ByAdmin: true,
	})
	if err != nil {
		return AccountLine{}, err
	}
	request.Event(ctx, request.EventAccountCreated, acc.DID.String(), request.Source(request.SourceOperator),
		slog.Bool("invited", false), slog.Bool("deactivated", false))
	line := accountLine(acc)
	line.Password = made
	return line, nil
}

// newPassword is a password of 120 random bits.
func newPassword() string {
	raw := make([]byte, 15)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}

const pageSize = 500

func (s *Service) listAccounts(ctx context.Context, a ListArgs) (AccountPage, error) {
	accounts, err := s.Accounts.List(ctx, a.After, pageSize)
	if err != nil {
		return AccountPage{}, err
	}
	return accountPage(accounts), nil
}

// accountPage is a page of up to pageSize accounts.
func accountPage(accounts []*account.Account) AccountPage {
	page := AccountPage{Accounts: []AccountLine{}}
	for _, acc := range accounts {
		page.Accounts = append(page.Accounts, accountLine(acc))
	}
	if len(accounts) == pageSize {
		page.Next = accounts[pageSize-1].ID
	}
	return page
}

func (s *Service) accountInfo(ctx context.Context, a AccountArgs) (AccountInfo, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return AccountInfo{}, err
	}
	info := AccountInfo{
		AccountLine: accountLine(acc), EmailConfirmed: !acc.EmailConfirmedAt.IsZero(), EmailFactor: acc.EmailFactor,
		Notices: !acc.NoticesOff, TakedownRef: acc.TakedownRef, AppPasswords: []string{}, Trail: []EntryLine{},
	}
	cred, err := s.Accounts.Credentials(ctx, acc.ID)
	if err != nil {
		return AccountInfo{}, err
	}
	for _, p := range cred.AppPasswords {
		info.AppPasswords = append(info.AppPasswords, p.Name)
	}
	if info.Sessions, err = s.listSessions(ctx, AccountArgs{acc.DID.String()}); err != nil {
		return AccountInfo{}, err
	}
	if info.Browsers, err = s.browsers(ctx, acc); err != nil {
		return AccountInfo{}, err
	}
	trail, err := s.Accounts.Trail(ctx, acc.ID, account.TrailLimit)
	if err != nil {
		return AccountInfo{}, err
	}
	for _, e := range trail {
		info.Trail = append(info.Trail, EntryLine{
			At: datetime(e.At), Kind: string(e.Kind), By: string(e.By), Session: e.Session, Reason: e.Reason, Network: e.Network,
			UserAgent: e.UserAgent, OtherNetwork: e.OtherNetwork, OtherUserAgent: e.OtherUserAgent,
		})
	}
	return info, nil
}

// browsers returns the browsers on which an account is signed in.
func (s *Service) browsers(ctx context.Context, a *account.Account) ([]BrowserLine, error) {
	all, err := s.Browsers(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	lines := []BrowserLine{}
	for i := range all {
		b := &all[i]
		in, ok := b.SignIn(a.ID)
		if !ok {
			continue
		}
		line := BrowserLine{
			ID: b.ID, CreatedAt: datetime(in.At), LastUsedAt: datetime(in.UsedAt), Client: request.ClientName(b.UserAgent),
			UserAgent: b.UserAgent, Network: b.Network,
		}
		if in.Trusted(s.Now()) {
			line.TrustedUntil = datetime(in.TrustedUntil)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (s *Service) rotateKey(ctx context.Context, _ Done) (auth.KeyInfo, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionKeyRotated, "", "", "")); err != nil {
		return auth.KeyInfo{}, err
	}
	return s.Keyring.Rotate()
}

func (s *Service) setPassword(ctx context.Context, a PasswordArgs) (AccountLine, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return AccountLine{}, err
	}
	line := accountLine(acc)
	if a.Password == "" {
		line.Password = newPassword()
		a.Password = line.Password
	}
	return line, s.SetPassword(ctx, acc.DID, a.Password)
}

func (s *Service) signOut(ctx context.Context, a SignOutArgs) (Ended, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return Ended{}, err
	}
	n, err := s.Sessions.RevokeAll(ctx, acc.DID, a.AppPasswords, account.ActorAdmin)
	return Ended{n}, err
}

func (s *Service) listSessions(ctx context.Context, a AccountArgs) ([]SessionLine, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return nil, err
	}
	list, err := s.Sessions.List(ctx, acc.DID)
	if err != nil {
		return nil, err
	}
	lines := []SessionLine{}
	for i := range list {
		lines = append(lines, lineOf(&list[i]))
	}
	return lines, nil
}

// lineOf returns a session as lists show it.
func lineOf(st *session.State) SessionLine {
	line := SessionLine{
		ID: st.ID, CreatedAt: datetime(st.CreatedAt), LastUsedAt: datetime(st.RotatedAt), ExpiresAt: datetime(st.Expires),
		Client: request.ClientName(st.UserAgent), UserAgent: st.UserAgent, Network: st.Network, AppPassword: st.AppPassword, Refreshes: st.Head,
	}
	if g := st.Grant; g != nil {
		line.ClientID, line.Scope = g.ClientID, g.Effective
		if g.LastCallAt.After(st.RotatedAt) {
			line.LastUsedAt = datetime(g.LastCallAt)
		}
	}
	return line
}

func (s *Service) revokeSession(ctx context.Context, a SessionArgs) (Done, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return Done{}, err
	}
	err = s.Sessions.Revoke(ctx, acc.DID, a.ID, account.ActorAdmin)
	if errors.Is(err, session.ErrUnknown) {
		return Done{}, fmt.Errorf("%s has no session %d", acc.Handle, a.ID)
	}
	return Done{}, err
}

func accountLine(a *account.Account) AccountLine {
	status := string(a.Status())
	if a.Status() == account.Active {
		status = "active"
	}
	line := AccountLine{DID: a.DID.String(), Handle: a.Handle.String(), Email: a.Email, Status: status}
	if a.CreatedAt.IsZero() {
		line.Status = cmp.Or(string(a.Status()), "no measure") // the account is gone
	} else {
		line.CreatedAt = a.CreatedAt.Format(time.RFC3339)
	}
	return line
}
