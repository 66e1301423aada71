package takeover

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/oauth"
	"nestbox/oauth/scope"
	"nestbox/session"
)

// OAuthToken is a row of the source's table token: what an OAuth client was granted.
type OAuthToken struct {
	// ID names its access token, Refresh is its refresh token, empty for none.
	ID, Refresh string
	// Used are its earlier refresh tokens, in the order in which they were used.
	Used []string
	// Expires is when the access token expires. Updated is when the client last refreshed.
	Created, Updated, Expires time.Time
	ClientID, DeviceID        string
	// Auth and Parameters are JSON.
	Auth, Parameters []byte
	// Scope is what was granted, with permission sets expanded; empty in old sources.
	Scope string
}

// Allowed is a row of the source's table authorized_client.
type Allowed struct {
	ClientID string
	// Updated is when the owner last decided.
	Updated time.Time
	// Data is JSON.
	Data []byte
}

// GrantSource is what the source keeps of OAuth clients.
type GrantSource interface {
	// Grants calls yield once for each account that has any, with all of its tokens and
	// consents.
	Grants(ctx context.Context, yield func(did string, tokens []OAuthToken, allowed []Allowed) error) error
}

// GrantStore keeps what is brought of OAuth clients; see SessionStore.
type GrantStore interface {
	Holder(ctx context.Context, did syntax.DID) (Holder, error)
	PutSessions(ctx context.Context, sessions []Brought) error
	// PutConsents stores consents.
	PutConsents(ctx context.Context, consents []oauth.Consent) error
}

// GrantRules is what decides about the lives of grants.
type GrantRules struct {
	// Trusted are the clients of PDS_OAUTH_TRUSTED_CLIENTS.
	Trusted []string
	// Browsers are the numbers of brought browsers, by their names in the source.
	Browsers map[string]int64
}

// GrantCounts counts what became of what OAuth clients were granted.
type GrantCounts struct {
	Sessions int `json:"sessions"`
	Tokens   int `json:"tokens"`
	Consents int `json:"consents"`
	// Expired had ended; NoAccount are of accounts that were not taken over.
	Expired   int `json:"expired"`
	NoAccount int `json:"noAccount"`
	// Damaged are those whose client, key or scope cannot be read: the client asks for a new
	// sign-in.
	Damaged int `json:"damaged"`
}

// The lives of grants in the source, since they were made and since they were last used
// (oauth-constants.ts): of public clients, and of confidential and trusted ones.
const (
	sourceYear        = 8766 * time.Hour // 365.25 days
	publicGrantLife   = 14 * 24 * time.Hour
	grantLife         = 2 * sourceYear
	grantUnusedLife   = sourceYear / 4
	methodPrivateKey  = session.AuthPrivateKey
	methodPrivateKey0 = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // as older versions name it
	// usedKept is how many used refresh tokens of a grant are brought: more than a client uses
	// in a reuse window.
	usedKept = 100
)

// BringGrants brings what OAuth clients were granted, and what people need not allow again.
// Sessions were brought before.
func BringGrants(ctx context.Context, src GrantSource, dst GrantStore, rules GrantRules, now time.Time) (GrantCounts, error) {
	now = now.UTC().Truncate(time.Millisecond)
	var counts GrantCounts
	var sessions []Brought
	var consents []oauth.Consent
	flush := func() error {
		err := dst.PutSessions(ctx, sessions)
		if err == nil {
			err = dst.PutConsents(ctx, consents)
		}
		sessions, consents = sessions[:0], consents[:0]
		return err
	}
	err := src.Grants(ctx, func(did string, tokens []OAuthToken, allowed []Allowed) error {
		holder, err := holderOf(ctx, dst, did)
		if errors.Is(err, ErrNoAccount) {
			counts.NoAccount += len(tokens)
			return nil
		}
		if err != nil {
			return err
		}
		for i := range tokens {
			b, ok := tokens[i].session(holder, rules, now)
			switch {
			case !ok:
				counts.Damaged++
			case !now.Before(b.State.Expires):
				counts.Expired++
			default:
				counts.Sessions++
				counts.Tokens += len(b.Tokens)
				sessions = append(sessions, b)
			}
		}
		for i := range allowed {
			if c, ok := allowed[i].consent(holder, now); ok {
				counts.Consents++
				consents = append(consents, c)
			}
		}
		if len(sessions)+len(consents) < sessionBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(sessions)+len(consents) > 0 {
		err = flush()
	}
	return counts, err
}

// LiveGrant is what an OAuth client was granted on the source.
type LiveGrant struct {
	DID syntax.DID
	// DPoPJKT is the thumbprint of the key that the client proves.
	ClientID, DPoPJKT string
	// Token is the session.TokenHash of its newest access token.
	Token [sha256.Size]byte
}

// LiveGrants calls yield with each grant of the source that lived at a time. trusted are the
// clients of PDS_OAUTH_TRUSTED_CLIENTS.
func LiveGrants(ctx context.Context, src GrantSource, trusted []string, at time.Time, yield func(LiveGrant) error) error {
	at = at.UTC().Truncate(time.Millisecond)
	return src.Grants(ctx, func(did string, tokens []OAuthToken, _ []Allowed) error {
		for i := range tokens {
			b, ok := tokens[i].session(Holder{}, GrantRules{Trusted: trusted}, at)
			if !ok || !at.Before(b.State.Expires) {
				continue
			}
			by := b.State.Grant.Holder
			if err := yield(LiveGrant{syntax.DID(did), by.ClientID, by.DPoPJKT, session.TokenHash(tokens[i].ID)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// holder returns the program that a grant belongs to. It reports false for what no client
// can prove any more: a grant without a DPoP key is none of ours.
func (t *OAuthToken) holder() (h session.Holder, scope string, ok bool) {
	var by struct{ Method, Alg, KID, JKT string }
	var asked struct {
		Scope string `json:"scope"`
		JKT   string `json:"dpop_jkt"`
	}
	if json.Unmarshal(t.Auth, &by) != nil || json.Unmarshal(t.Parameters, &asked) != nil || asked.JKT == "" || t.ClientID == "" {
		return h, "", false
	}
	h = session.Holder{ClientID: t.ClientID, AuthMethod: session.AuthNone, DPoPJKT: asked.JKT}
	switch by.Method {
	case session.AuthNone:
	case methodPrivateKey, methodPrivateKey0:
		h.AuthMethod, h.Alg, h.KID, h.ClientJKT = session.AuthPrivateKey, by.Alg, by.KID, by.JKT
		if by.Alg == "" || by.KID == "" || by.JKT == "" {
			return h, "", false
		}
	default:
		return h, "", false
	}
	return h, asked.Scope, true
}

// session returns the session of a grant, whether it has expired or not. It reports false if
// the grant is damaged. It is pure but for the session's nonce.
func (t *OAuthToken) session(h Holder, rules GrantRules, now time.Time) (Brought, bool) {
	holder, asked, ok := t.holder()
	granted := scope.Parse(asked)
	effective := scope.Parse(t.Scope)
	if t.Scope == "" {
		effective = granted
	}
	if !ok || t.ID == "" || t.Created.IsZero() || t.Updated.IsZero() || !effective.Has(scope.Atproto) {
		return Brought{}, false
	}
	life, unused := publicGrantLife, publicGrantLife
	if holder.AuthMethod != session.AuthNone || slices.Contains(rules.Trusted, t.ClientID) {
		life, unused = grantLife, grantUnusedLife
	}
	made := earlier(t.Created, now)
	ends := made.Add(life)
	nonce := make([]byte, 9)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	st := session.State{
		Nonce: base64.RawURLEncoding.EncodeToString(nonce), AccountID: h.AccountID, Scope: auth.ScopeOAuth,
		CreatedAt: made, RotatedAt: later(made, earlier(t.Updated, now)), Head: int64(len(t.Used)),
		Grant: &session.Grant{
			Holder: holder, Requested: granted.String(), Granted: granted.String(), Effective: effective.String(), EndsAt: ends,
			DeviceID: rules.Browsers[t.DeviceID],
		},
	}
	st.Expires = earlier(st.RotatedAt.Add(unused), ends)
	if t.Refresh == "" {
		st.Expires = earlier(t.Expires, ends)
	}
	return Brought{State: st, Tokens: t.tokens(st.Head)}, true
}

// tokens returns what stands for a grant's generations: its access token, and its refresh
// tokens, of which the newest is the head.
func (t *OAuthToken) tokens(head int64) []BroughtToken {
	all := []BroughtToken{{session.TokenHash(t.ID), head}}
	if t.Refresh != "" {
		all = append(all, BroughtToken{session.TokenHash(t.Refresh), head})
	}
	for i := max(len(t.Used)-usedKept, 0); i < len(t.Used); i++ {
		all = append(all, BroughtToken{session.TokenHash(t.Used[i]), int64(i)})
	}
	return all
}

// consent returns what an owner need not allow again. It reports false if there is nothing
// of it that counts here: a client on this computer cannot prove who it is.
func (a *Allowed) consent(h Holder, now time.Time) (oauth.Consent, bool) {
	var data struct{ AuthorizedScopes []string }
	if json.Unmarshal(a.Data, &data) != nil || a.ClientID == "" || strings.HasPrefix(a.ClientID, "http://") {
		return oauth.Consent{}, false
	}
	scopes := scope.Parse(strings.Join(data.AuthorizedScopes, " "))
	if scopes.Len() == 0 {
		return oauth.Consent{}, false
	}
	// When it was last used is not known there: what is not used from now on is forgotten.
	return oauth.Consent{
		AccountID: h.AccountID, ClientID: a.ClientID, Scopes: scopes.String(), At: earlier(a.Updated, now), UsedAt: now,
	}, true
}
