package export

import (
	"context"
	"encoding/json"
	"time"

	"nestbox/account"
)

// about is account.json. It holds no secret: no hash, no key, no code that was sent.
type about struct {
	DID            string          `json:"did"`
	Handle         string          `json:"handle"`
	Email          string          `json:"email"`
	EmailConfirmed *time.Time      `json:"emailConfirmedAt"`
	CreatedAt      time.Time       `json:"createdAt"`
	Status         string          `json:"status"`
	InvitedWith    string          `json:"invitedWith,omitempty"`
	Notices        bool            `json:"notices"`
	Document       json.RawMessage `json:"didDocument,omitempty"`
	PLCLog         json.RawMessage `json:"plcLog,omitempty"`
	Invites        []invite        `json:"invites"`
	AppPasswords   []appPassword   `json:"appPasswords"`
	Sessions       []signedIn      `json:"sessions"`
	Browsers       []browser       `json:"browsers"`
	Apps           []consent       `json:"apps"`
	Trail          []event         `json:"trail"`
}

type invite struct {
	Code      string    `json:"code"`
	CreatedAt time.Time `json:"createdAt"`
	Uses      int       `json:"uses"`
	Disabled  bool      `json:"disabled"`
}

type appPassword struct {
	Name       string    `json:"name"`
	Privileged bool      `json:"privileged"`
	CreatedAt  time.Time `json:"createdAt"`
}

type signedIn struct {
	CreatedAt   time.Time `json:"createdAt"`
	LastUsedAt  time.Time `json:"lastUsedAt"`
	Network     string    `json:"network"`
	UserAgent   string    `json:"userAgent"`
	AppPassword string    `json:"appPassword,omitempty"`
	ClientID    string    `json:"clientId,omitempty"`
	Scope       string    `json:"scope,omitempty"`
}

type browser struct {
	SignedInAt time.Time `json:"signedInAt"`
	LastUsedAt time.Time `json:"lastUsedAt"`
	Network    string    `json:"network"`
	UserAgent  string    `json:"userAgent"`
}

type consent struct {
	ClientID string    `json:"clientId"`
	Scope    string    `json:"scope"`
	At       time.Time `json:"at"`
	UsedAt   time.Time `json:"usedAt"`
}

type event struct {
	At             time.Time `json:"at"`
	Kind           string    `json:"kind"`
	By             string    `json:"by"`
	Reason         string    `json:"reason,omitempty"`
	Network        string    `json:"network,omitempty"`
	UserAgent      string    `json:"userAgent,omitempty"`
	OtherNetwork   string    `json:"otherNetwork,omitempty"`
	OtherUserAgent string    `json:"otherUserAgent,omitempty"`
}

// writeAccount writes what the server knows of the account, and its preferences.
func (x *Archive) writeAccount(ctx context.Context, z *zipper) error {
	if x.part != nil {
		return nil
	}
	a := x.account
	out := about{
		DID: a.DID.String(), Handle: a.Handle.String(), Email: a.Email, CreatedAt: a.CreatedAt, Status: string(a.Status()),
		InvitedWith: a.InvitedWith,
		Notices:     !a.NoticesOff, Document: x.s.Document(a), Invites: []invite{}, AppPasswords: []appPassword{}, Sessions: []signedIn{},
		Browsers: []browser{}, Apps: []consent{}, Trail: []event{},
	}
	if !a.EmailConfirmedAt.IsZero() {
		out.EmailConfirmed = &a.EmailConfirmedAt
	}
	log, err := x.s.Log(ctx, a.DID)
	if err != nil {
		z.lack("account.json plcLog", "the PLC directory does not answer")
	}
	out.PLCLog = log
	for _, gather := range []func(context.Context, *account.Account, *about) error{x.s.ownership, x.s.access} {
		if err := gather(ctx, a, &out); err != nil {
			return err
		}
	}
	if err := z.json("account.json", out); err != nil {
		return err
	}
	values, err := x.s.preferences(ctx, a)
	if err != nil {
		return err
	}
	return z.json("preferences.json", values)
}

// ownership gathers invites, app passwords and the trail.
func (s *Service) ownership(ctx context.Context, a *account.Account, out *about) error {
	codes, err := s.Accounts.InviteCodesFor(ctx, a.DID)
	if err != nil {
		return err
	}
	for _, c := range codes {
		out.Invites = append(out.Invites, invite{Code: c.Code, CreatedAt: c.CreatedAt, Uses: len(c.Uses), Disabled: c.Disabled})
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, p := range cred.AppPasswords {
		out.AppPasswords = append(out.AppPasswords, appPassword{p.Name, p.Privileged, p.CreatedAt})
	}
	trail, err := s.Accounts.Trail(ctx, a.ID, account.TrailLimit)
	for _, e := range trail {
		out.Trail = append(out.Trail, event{
			e.At, string(e.Kind), string(e.By), e.Reason, e.Network, e.UserAgent, e.OtherNetwork,
			e.OtherUserAgent,
		})
	}
	return err
}

// access gathers what can use the account.
func (s *Service) access(ctx context.Context, a *account.Account, out *about) error {
	sessions, err := s.Sessions.List(ctx, a.ID)
	if err != nil {
		return err
	}
	for i := range sessions {
		st := &sessions[i]
		one := signedIn{st.CreatedAt, st.RotatedAt, st.Network, st.UserAgent, st.AppPassword, "", ""}
		if st.Grant != nil {
			one.ClientID, one.Scope = st.Grant.ClientID, st.Grant.Granted
		}
		out.Sessions = append(out.Sessions, one)
	}
	browsers, err := s.Devices.List(ctx, a.ID)
	if err != nil {
		return err
	}
	for i := range browsers {
		if in, ok := browsers[i].SignIn(a.ID); ok {
			out.Browsers = append(out.Browsers, browser{in.At, in.UsedAt, browsers[i].Network, browsers[i].UserAgent})
		}
	}
	consents, err := s.Consents.Consents(ctx, a.ID)
	for _, c := range consents {
		out.Apps = append(out.Apps, consent{c.ClientID, c.Scopes, c.At, c.UsedAt})
	}
	return err
}
