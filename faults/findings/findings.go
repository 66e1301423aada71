// Package findings finds what clients got wrong, in the calls that they made. It is pure: calls in,
// findings out, in the order in which docs/clients.md explains them.
//
// Invariants:
//   - A client that follows the rules of docs/sessions.md gets no finding, whatever faults happen
//     to its calls.
//   - Each mistake gives one kind of finding, not several.
package findings

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Purpose is what a call is for.
type Purpose string

// The purposes. Any other call has none.
const (
	Refresh Purpose = "refresh"
	SignIn  Purpose = "sign-in"
	SignOut Purpose = "sign-out"
)

// The kinds of token that a call presents.
const (
	AccessToken  = "access"
	RefreshToken = "refresh"
)

// Call is a call that a client made, and what it got.
type Call struct {
	// At is when the request came, End when its answer was sent or lost.
	At  time.Time `json:"at"`
	End time.Time `json:"end"`
	// Client is the User-Agent; ClientID is that of an OAuth client.
	Client   string `json:"client,omitempty"`
	ClientID string `json:"clientId,omitempty"`
	// Caller names the program that made the call, if it can be distinguished from others of the same
	// client: an answer that one tab got tells the others nothing.
	Caller string `json:"caller,omitempty"`
	// Account is what the request names: the DID of its token, or who signs in. DID and Handle are
	// those in the answer.
	Account string `json:"account,omitempty"`
	DID     string `json:"did,omitempty"`
	Handle  string `json:"handle,omitempty"`
	// Session is the one that the token names, under a name of its own; of a sign-in, the one that it opened.
	Session string  `json:"session,omitempty"`
	Verb    string  `json:"verb"`
	Method  string  `json:"method"`
	Purpose Purpose `json:"purpose,omitempty"`
	// Token is the kind of token that was presented, Generation its number if it has one.
	Token      string `json:"token,omitempty"`
	Generation int64  `json:"generation"`
	// Foreign: the token is another server's.
	Foreign bool `json:"foreign,omitempty"`
	// Given is the generation of the pair in the answer, Life that of its access token, Expires when it
	// expires as the client sees it, Ends when the refresh token does.
	Given   int64         `json:"given"`
	Life    time.Duration `json:"life,omitempty"`
	Expires time.Time     `json:"expires,omitzero"`
	Ends    time.Time     `json:"ends,omitzero"`
	// Status and Error are the answer's; Lost: it did not reach the client whole; Left: because the client
	// ended the connection.
	Status     int           `json:"status"`
	Error      string        `json:"error,omitempty"`
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
	Lost       bool          `json:"lost,omitempty"`
	Left       bool          `json:"left,omitempty"`
	// Faults are those on purpose that happened to the call.
	Faults []string `json:"faults,omitempty"`
	// Digest names what was asked for: calls with the same one ask for the same. Unsafe: asked
	// twice, it is done twice. Nobody is shown a Digest: a request may have a password.
	Digest string `json:"-"`
	Unsafe bool   `json:"unsafe,omitempty"`
	// Reads is the account whose repository the call reads.
	Reads string `json:"reads,omitempty"`
	// Moved is an address in the request that is no longer right; Told is when an answer said so.
	Moved string    `json:"moved,omitempty"`
	Told  time.Time `json:"told,omitzero"`
}

// None is the generation of a token that has none, and of an answer without a pair.
const None = -1

// transient reports whether the answer says nothing final about the session.
func (c *Call) transient() bool { return c.Lost || c.Status >= 500 || c.Status == 429 }

// final reports whether the client learned that its session has ended.
func (c *Call) final() bool {
	switch {
	case c.Lost:
		return false
	case c.Purpose == SignOut:
		return c.Status == 200
	case c.Purpose != Refresh || c.Token != RefreshToken:
		return false
	}
	return c.Status == 400 && slices.Contains([]string{"ExpiredToken", "InvalidToken", "invalid_grant"}, c.Error) ||
		c.Status == 401 && c.Error == "AccountTakedown"
}

// expired reports whether the client learned that its access token is no good.
func (c *Call) expired() bool {
	if c.Lost || c.Purpose == Refresh || c.Token != AccessToken {
		return false
	}
	return c.Status == 401 && c.Error != "use_dpop_nonce" || c.Status == 400 && c.Error == "ExpiredToken"
}

// over reports whether the client learned that its access token or its session is over. A 401 of another
// name says nothing of that, such as of an account that is deactivated.
func (c *Call) over() bool {
	return !c.Lost && c.Token == AccessToken && (c.Status == 400 && c.Error == "ExpiredToken" || c.Status == 401 && c.Error == "invalid_token")
}

// gave reports whether the client got a pair of tokens.
func (c *Call) gave() bool { return !c.Lost && c.Given != None }

// Kind is a kind of finding, and the heading of its part of docs/clients.md.
type Kind string

// The kinds, in the order of docs/clients.md.
const (
	AtOnce       Kind = "refreshes-at-once"
	Early        Kind = "early-refresh"
	Stale        Kind = "stale-token"
	Unused       Kind = "unused-token"
	Dropped      Kind = "dropped-session"
	Kept         Kind = "kept-session"
	Impatient    Kind = "ignored-retry-after"
	RepeatedPost Kind = "repeated-post"
	WrongToken   Kind = "wrong-token"
	PilingUp     Kind = "never-signed-out"
	NonceIgnored Kind = "ignored-nonce"
	MovedAddress Kind = "moved-address"
	ForeignToken Kind = "foreign-token"
)

// Line is a kind with what it means, and what to do.
type Line struct {
	Kind   Kind
	Means  string
	Advice string
}

// Lines returns all kinds in the order of docs/clients.md.
func Lines() []Line {
	return []Line{
		{
			AtOnce, "refreshed several times at once with one token",
			"let one refresh run at a time, and give its result to all that wait",
		},
		{
			Early, "refreshed though the access token was good",
			"refresh when a call answers ExpiredToken, or shortly before the token's exp",
		},
		{
			Stale, "presented a refresh token that is older than one it had used",
			"keep the newest pair only, in one place that all tabs and processes read",
		},
		{
			Unused, "got a new refresh token, and presented the old one again",
			"keep the new pair before you use it",
		},
		{
			Dropped, "signed in again though the session was alive",
			"keep the session on 5xx, 429 and broken connections, and try again with the same token",
		},
		{
			Kept, "went on with a session that had ended",
			"drop the session when the refresh itself is refused, and ask the person to sign in",
		},
		{
			Impatient, "repeated a call before Retry-After was over",
			"wait as long as Retry-After says",
		},
		{
			RepeatedPost, "repeated a call that may have been done, and is done twice then",
			"choose the record's key yourself (rkey), or look before you repeat",
		},
		{
			WrongToken, "sent the wrong one of its two tokens",
			"send the refresh token to refreshSession and deleteSession only, the access token to all else",
		},
		{
			PilingUp, "left its sessions behind, and opened new ones",
			"sign out with deleteSession, or /oauth/revoke, before you forget the tokens",
		},
		{
			NonceIgnored, "did not repeat a call that was asked for another nonce",
			"repeat the call once, with the nonce of DPoP-Nonce",
		},
		{
			MovedAddress, "used an address that has changed",
			"name accounts by their DID, and take the host from the DID document",
		},
		{
			ForeignToken, "sent a token of another server",
			"keep each token with its server, and send it nowhere else",
		},
	}
}

// Finding is what a client got wrong.
type Finding struct {
	Kind     Kind   `json:"kind"`
	Client   string `json:"client"`
	ClientID string `json:"clientId,omitempty"`
	Account  string `json:"account,omitempty"`
	Session  string `json:"session,omitempty"`
	// Times is how often it happened, from First to Last.
	Times int       `json:"times"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Evidence is what was seen, of the first times; Newest of the last one.
	Evidence []string `json:"evidence"`
	Newest   string   `json:"-"`
}

// maxEvidence bounds the lines of evidence of a finding.
const maxEvidence = 3

// The tolerances: an answer and a request may pass each other on the way.
const (
	// settle is how long after an answer a client may act as if it had not come yet.
	settle = time.Second
	// together is how long after another one a refresh with the same token counts as begun at once
	// with it, if that one is not answered yet: later, it may be a client that waited long enough.
	together = 2 * time.Second
	// earlyPart divides an access token's life: a refresh in its first part is early.
	earlyPart = 2
	// soon is how long before a token expires a client may act: refresh, or sign in if it is the refresh token.
	soon = time.Minute
	// goOn is how many calls a client may make with a session that it knows has ended.
	goOn = 8
	// again is how long a client has to repeat a call that was asked for a nonce, and for how long
	// a call counts as repeated.
	again = 30 * time.Second
	// slow is how long a call takes whose client may have given it up, though the connection stays.
	slow = 3 * time.Second
	// patient is how many tenths of Retry-After a client must wait.
	patient = 9
	// byItself is how soon after a failed refresh a sign-in is the client's own doing, whatever was called
	// in between: no person signs out and in again so fast.
	byItself = 2 * time.Second
	// piled is how many sessions left behind are a finding.
	piled = 3
)

// who identifies one client of an account, as a request names them: it does so before and after it succeeds.
type who struct{ client, clientID, account string }

func (c *Call) who() who { return who{c.Client, c.ClientID, c.Account} }

// Of returns the account that a call is about, by its DID if that is known.
func (c *Call) Of() string { return cmp.Or(c.DID, c.Account) }

// revocable is how long a session may be silent until it counts as left.
const revocable = time.Minute

// Settled reports whether calls from now on hardly take the finding back: of a session that seems to be left
// behind, one that goes on does.
func (f Finding) Settled(now time.Time) bool {
	return f.Kind != Dropped && f.Kind != PilingUp || now.Sub(f.Last) >= revocable
}

// collector puts findings of one kind about one session, or one client, together.
type collector struct {
	all   []*Finding
	index map[string]*Finding
}

func (r *collector) add(kind Kind, c *Call, session, format string, args ...any) {
	key := fmt.Sprintf("%s %q %q %q %q", kind, c.Client, c.ClientID, c.Of(), session)
	f := r.index[key]
	if f == nil {
		f = &Finding{Kind: kind, Client: c.Client, ClientID: c.ClientID, Account: c.Of(), Session: session, First: c.At}
		r.index[key] = f
		r.all = append(r.all, f)
	}
	f.Times++
	f.Last = c.At
	f.Newest = c.At.Format("15:04:05.000") + " " + fmt.Sprintf(format, args...)
	if len(f.Evidence) < maxEvidence {
		f.Evidence = append(f.Evidence, f.Newest)
	}
}

// Of returns the findings about calls, by kind, then by when each began.
func Of(calls []Call) []Finding {
	calls = slices.Clone(calls)
	slices.SortStableFunc(calls, func(a, b Call) int { return a.At.Compare(b.At) })
	r := &collector{index: map[string]*Finding{}}
	bySession, byWho, byOwner := map[string][]*Call{}, map[who][]*Call{}, map[who][]*Call{}
	var sessions []string
	var clients, owners []who
	looked := looksOf(calls)
	for i := range calls {
		c := &calls[i]
		switch {
		case c.Foreign:
			r.add(ForeignToken, c, "", "%s with a token of another server", c.Method)
			continue
		case c.Moved != "" && !c.At.Before(c.Told.Add(settle)):
			r.add(MovedAddress, c, "", "%s names %s", c.Method, c.Moved)
		}
		if c.Session != "" {
			if bySession[c.Session] == nil {
				sessions = append(sessions, c.Session)
			}
			bySession[c.Session] = append(bySession[c.Session], c)
		}
		if byWho[c.who()] == nil {
			clients = append(clients, c.who())
		}
		byWho[c.who()] = append(byWho[c.who()], c)
		owner := who{c.Client, c.ClientID, c.Of()}
		if byOwner[owner] == nil {
			owners = append(owners, owner)
		}
		byOwner[owner] = append(byOwner[owner], c)
	}
	for _, s := range sessions {
		ofRefreshes(r, s, bySession[s])
		ofTokens(r, s, bySession[s])
		ofEnd(r, s, bySession[s])
	}
	for _, w := range clients {
		ofRepeats(r, byWho[w], looked)
		ofNonces(r, byWho[w], calls[len(calls)-1].At)
	}
	for _, o := range owners {
		ofSignIns(r, byOwner[o])
	}
	order := map[Kind]int{}
	for i, l := range Lines() {
		order[l.Kind] = i
	}
	found := make([]Finding, 0, len(r.all))
	for _, f := range r.all {
		found = append(found, *f)
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), a.First.Compare(b.First))
	})
	return found
}
