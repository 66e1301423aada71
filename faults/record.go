package faults

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/faults/findings"
)

// recorder keeps the calls of clients, from when faults are set on.
type recorder struct {
	// key keeps digests from being guessed: requests have passwords.
	key [sha256.Size]byte

	mu       sync.Mutex
	calls    []findings.Call
	bytes    int // what calls take
	watchers map[chan findings.Call]struct{}
	// handles are those of accounts, by DID, as answers named them last; moved are the DIDs of
	// accounts by handles that they had before; told are the handles that answers named to sessions.
	handles, moved, told map[string]string
}

// maxCalls and maxBytes bound what is kept of calls, in memory; beyond them the oldest go, down to half.
const (
	maxCalls = 50_000
	maxBytes = 64 << 20
)

// sizeOf returns about how many bytes a call takes.
func sizeOf(c *findings.Call) int {
	const fixed = 512 // the Call itself, with room to grow
	n := fixed
	for _, text := range []string{
		c.Client, c.ClientID, c.Caller, c.Account, c.DID, c.Handle, c.Session, c.Verb, c.Method, c.Error, c.Digest, c.Moved,
	} {
		n += len(text)
	}
	return n
}

// add keeps a call, and shows it to those who watch. One that does not keep up misses calls.
func (r *recorder) add(c findings.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	r.bytes += sizeOf(&c)
	if len(r.calls) > maxCalls || r.bytes > maxBytes {
		r.forget()
	}
	for w := range r.watchers {
		select {
		case w <- c:
		default:
		}
	}
}

// forget lets the oldest calls go.
func (r *recorder) forget() {
	n := 0
	for ; len(r.calls)-n > maxCalls/2 || r.bytes > maxBytes/2; n++ {
		r.bytes -= sizeOf(&r.calls[n])
	}
	r.calls = slices.Delete(r.calls, 0, n)
}

// clear forgets all calls.
func (r *recorder) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.bytes = nil, 0
}

// since returns the calls that began at a time or later.
func (r *recorder) since(at time.Time) []findings.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calls []findings.Call
	for _, c := range r.calls {
		if !c.At.Before(at) {
			calls = append(calls, c)
		}
	}
	return calls
}

// watch returns the calls from now on, until end is called.
func (r *recorder) watch() (calls chan findings.Call, end func()) {
	const waiting = 1000
	calls = make(chan findings.Call, waiting)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watchers == nil {
		r.watchers = map[chan findings.Call]struct{}{}
	}
	r.watchers[calls] = struct{}{}
	return calls, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, calls)
	}
}

// named notes an account's handle.
func (r *recorder) named(did, handle string) {
	if did == "" || handle == "" || handle == "handle.invalid" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handles == nil || len(r.handles) >= maxSessions {
		r.handles, r.moved = map[string]string{}, map[string]string{}
	}
	if old := r.handles[did]; old != "" && old != handle {
		r.moved[old] = did
	}
	delete(r.moved, handle)
	r.handles[did] = handle
}

// tell notes the handle that the answer to a call names, if it came to the client.
func (r *recorder) tell(c *findings.Call) {
	if c.Handle == "" {
		return
	}
	r.named(c.Of(), c.Handle)
	if c.Session == "" || c.Lost {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil || len(r.told) >= maxSessions {
		r.told = map[string]string{}
	}
	r.told[c.Session] = c.Handle
}

// movedFrom returns what is wrong with a handle that the account of a session had before, if an
// answer has named the new one to the session; empty if nothing is.
func (r *recorder) movedFrom(handle string, by *claims) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	did := r.moved[handle]
	if did == "" || did != by.Sub || r.told[by.SID] != r.handles[did] {
		return ""
	}
	return "the handle " + handle + ", which is " + r.handles[did] + " now"
}

// maxText bounds what is kept of a text that a request or an answer has, in bytes.
const maxText = 256

// short returns the beginning of a text, and keeps nothing of the rest in memory.
func short(text string) string {
	if len(text) > maxText {
		return strings.Clone(strings.ToValidUTF8(text[:maxText], ""))
	}
	return strings.Clone(text)
}

// begin returns what is known of a call before it is answered.
func (f *Faults) begin(r *http.Request, c *call) *findings.Call {
	n := &findings.Call{
		At: f.in.Now(), Client: short(r.UserAgent()), Caller: callerOf(r), Account: short(shown(c.account)),
		Verb: short(r.Method), Method: short(c.method), Purpose: findings.Purpose(c.kind), Generation: findings.None, Given: findings.None,
	}
	n.ClientID = short(c.texts["client_id"])
	if c.method == deleteSession || c.method == oauthRevoke {
		n.Purpose = findings.SignOut
	}
	if t := c.token; t != nil {
		n.Session = short(t.SID)
		switch t.Typ {
		case "at+jwt", "oauth-at+jwt":
			n.Token, n.ClientID = findings.AccessToken, short(t.ClientID)
		case "refresh+jwt", "oauth-refresh+jwt":
			n.Token, n.ClientID = findings.RefreshToken, short(t.ClientID)
			if generation, ok := t.generation(); ok {
				n.Generation = generation
			}
		}
		audience, _, _ := strings.Cut(t.Aud, "#")
		n.Foreign = audience != "" && audience != f.in.DID && audience != f.in.URL
	}
	n.Unsafe = unsafe(r, c)
	n.Digest = f.recorder.digest(r, c, n.Unsafe)
	n.Moved = short(f.movedBy(r, c))
	return n
}

// shown returns the account that a request names, empty if that is neither a DID nor a handle: people
// also type e-mail addresses to sign in.
func shown(account string) string {
	if _, err := syntax.ParseAtIdentifier(account); err != nil {
		return ""
	}
	return account
}

// callerOf names the program that made a request, by its connection. It is empty for browsers, whose
// tabs share connections, and behind proxies, whose connections are all clients'.
func callerOf(r *http.Request) string {
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(name) != "" {
			return ""
		}
	}
	if strings.HasPrefix(r.UserAgent(), "Mozilla/") {
		return ""
	}
	return r.RemoteAddr
}

// dates are when records say that they were made.
var dates = regexp.MustCompile(`"createdAt"\s*:\s*"[^"]*"`)

// digest names what a call asks for, and by whom; empty if its body was not read. The date of
// what an unsafe call makes does not count.
func (r *recorder) digest(q *http.Request, c *call, unsafe bool) string {
	if q.Method != http.MethodGet && c.body == nil && q.ContentLength != 0 {
		return ""
	}
	body := c.body
	if unsafe {
		body = dates.ReplaceAll(body, nil)
	}
	sum := hmac.New(sha256.New, r.key[:])
	for _, part := range [][]byte{[]byte(q.Method), []byte(c.method), []byte(q.URL.RawQuery), []byte(c.account), body} {
		_, _ = sum.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		_, _ = sum.Write(part)
	}
	if c.token != nil {
		_, _ = sum.Write([]byte(c.token.SID))
		if c.kind == Refresh {
			_, _ = sum.Write([]byte(c.token.JTI))
		}
	}
	const enough = 12
	return hex.EncodeToString(sum.Sum(nil)[:enough])
}

// unsafe reports whether a call that comes twice is done twice.
func unsafe(r *http.Request, c *call) bool {
	if r.Method != http.MethodPost || c.texts["swapCommit"] != "" {
		return false
	}
	switch c.method {
	case "com.atproto.repo.createRecord":
		return c.texts["rkey"] == ""
	case "com.atproto.repo.applyWrites":
		return bytes.Contains(c.body, []byte("applyWrites#create\"")) && !bytes.Contains(c.body, []byte(`"rkey"`))
	case "com.atproto.server.createInviteCode", "com.atproto.moderation.createReport",
		"chat.bsky.convo.sendMessage", "chat.bsky.convo.sendMessageBatch":
		return true
	}
	return false
}

// movedBy returns which address in a call is not right any more.
func (f *Faults) movedBy(r *http.Request, c *call) string {
	if c.token != nil {
		for _, name := range []string{c.texts["repo"], r.URL.Query().Get("repo")} {
			if moved := f.recorder.movedFrom(name, c.token); moved != "" {
				return moved
			}
		}
	}
	if strings.HasPrefix(r.URL.Path, "/.well-known/") {
		return ""
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	own, err := url.Parse(f.in.URL)
	if err != nil || host == own.Hostname() || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		net.ParseIP(strings.Trim(host, "[]")) != nil || f.hosts(r.Context(), host) {
		return ""
	}
	return "the host " + host + ", though this server is " + own.Hostname()
}

// hosts reports whether an account has a handle.
func (f *Faults) hosts(ctx context.Context, handle string) bool {
	var is struct{ Handle string }
	return f.in.Run(ctx, "account.info", map[string]string{"account": handle}, &is) == nil && is.Handle == handle
}

// learn notes what an answer tells its client.
func (f *Faults) learn(n *findings.Call, status int, header http.Header, body []byte) {
	n.Status = status
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		n.RetryAfter = time.Duration(seconds) * time.Second
	}
	if status >= http.StatusBadRequest {
		var e struct{ Error string }
		if json.Unmarshal(body, &e) == nil {
			n.Error = short(e.Error)
		}
		return
	}
	var of struct{ DID, Handle string }
	if (n.Purpose != "" || n.Method == "com.atproto.server.getSession") && json.Unmarshal(body, &of) == nil {
		n.DID, n.Handle = short(of.DID), short(of.Handle)
	}
}

// gave notes the tokens of an answer.
func gave(n *findings.Call, g *given) {
	n.Session, n.DID = g.Access.SID, g.Access.Sub
	if g.Refresh == nil {
		return
	}
	if generation, ok := g.Refresh.generation(); ok {
		n.Given, n.Life, n.Expires = generation, g.Access.life(), time.Unix(g.Access.EXP, 0)
	}
	if g.Access.ClientID != "" { // OAuth clients go by expires_in, and do not look into the token
		n.Expires = n.At.Add(n.Life)
	}
}

// seen is an answer on its way, of which the status and the beginning are noted.
type seen struct {
	http.ResponseWriter

	status int
	begin  []byte
}

// maxSeen bounds what is noted of an answer, in bytes.
const maxSeen = 4 << 10

// WriteHeader implements http.ResponseWriter.
func (s *seen) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seen) Write(part []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if room := maxSeen - len(s.begin); room > 0 {
		s.begin = append(s.begin, part[:min(room, len(part))]...)
	}
	return s.ResponseWriter.Write(part)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }
