package faults

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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

	"nestbox/auth"
	"nestbox/faults/findings"
)

// recorder keeps the calls of clients, from when faults are set on.
type recorder struct {
	// key keeps digests from being guessed: requests have passwords.
	key [sha256.Size]byte

	mu       sync.Mutex
	calls    []findings.Call
	bytes    int // what calls take
	cleared  int // how often all calls were forgotten
	watchers map[chan WatchLine]struct{}
	// handles are those of accounts, by DID, as answers named them last; moved are the DIDs of
	// accounts by handles that they had before; told are the handles that answers named to sessions.
	handles, moved map[string]string
	told           map[string]told
}

// told is a handle, and when an answer first named it.
type told struct {
	handle string
	at     time.Time
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
		c.Client, c.ClientID, c.Caller, c.Account, c.DID, c.Handle, c.Session, c.Verb, c.Method, c.Error, c.Digest, c.Reads, c.Moved,
	} {
		n += len(text)
	}
	return n
}

// add keeps a call, and shows it to those who watch.
func (r *recorder) add(c findings.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	r.bytes += sizeOf(&c)
	if len(r.calls) > maxCalls || r.bytes > maxBytes {
		r.forget()
	}
	r.show(WatchLine{Call: &c})
}

// show shows a line to those who watch. One that does not keep up misses lines. The caller holds mu.
func (r *recorder) show(line WatchLine) {
	for w := range r.watchers {
		select {
		case w <- line:
		default:
		}
	}
}

// end tells those who watch that calls are not recorded any more.
func (r *recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.show(WatchLine{Off: true})
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
	r.cleared++
}

// all returns all calls, and how often calls were forgotten before.
func (r *recorder) all() (calls []findings.Call, cleared int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls), r.cleared
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

// watch returns the calls from now on, and the ends of the record, until end is called.
func (r *recorder) watch() (lines chan WatchLine, end func()) {
	const waiting = 1000
	lines = make(chan WatchLine, waiting)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watchers == nil {
		r.watchers = map[chan WatchLine]struct{}{}
	}
	r.watchers[lines] = struct{}{}
	return lines, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, lines)
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
		r.told = map[string]told{}
	}
	if r.told[c.Session].handle != c.Handle {
		r.told[c.Session] = told{c.Handle, c.End}
	}
}

// movedBy notes a handle in a call that the caller's account had before, if an answer has named the new one
// to the session, and no other account has it now.
func (f *Faults) movedBy(q *http.Request, c *call, n *findings.Call) {
	host := q.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, name := range []string{c.texts["repo"], q.URL.Query().Get("repo"), host} {
		is := f.recorder.movedTo(strings.ToLower(name), n)
		if is.handle == "" {
			continue
		}
		var now struct{ DID string }
		if f.in.Run(q.Context(), "account.info", map[string]string{"account": name}, &now) == nil && now.DID != n.Account {
			continue
		}
		n.Moved, n.Told = "the handle "+short(name)+", which is "+is.handle+" now", is.at
	}
}

// movedTo returns the handle in place of an old one of the caller's account, if an answer named it to the
// session; nothing otherwise.
func (r *recorder) movedTo(old string, n *findings.Call) told {
	r.mu.Lock()
	defer r.mu.Unlock()
	did, is := r.moved[old], r.told[n.Session]
	if did == "" || did != n.Account || is.handle != r.handles[did] {
		return told{}
	}
	return is
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
		n.Session = f.recorder.session(t.SID)
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
		n.Foreign = audience != "" && audience != f.in.URL && (audience != f.in.DID || f.forged(c))
	}
	n.Reads = reads(r, c)
	n.Unsafe = unsafe(r, c)
	n.Digest = f.recorder.digest(r, c, n.Unsafe)
	f.movedBy(r, c, n)
	return n
}

// forged reports whether a call presents a token of a session that names this server, and that none of its keys
// signed: of another one with the same name, as all on one machine have.
func (f *Faults) forged(c *call) bool {
	keys, t, made := f.in.Keyring, c.token, time.Unix(c.token.IAT, 0)
	var err error
	switch {
	case t.Typ == "at+jwt" && t.ClientID == "":
		_, err = keys.VerifyAccess(c.raw, t.Aud, made, auth.Scope(t.Scope))
	case t.Typ == "refresh+jwt":
		_, err = keys.VerifyRefresh(c.raw, t.Aud, made, true)
	case t.Typ == "at+jwt", t.Typ == "oauth-at+jwt":
		_, err = keys.VerifyOAuthAccess(c.raw, t.Iss, t.Aud, made)
	case t.Typ == "oauth-refresh+jwt":
		_, err = keys.VerifyOAuthRefresh(c.raw, t.Iss, made)
	}
	return err != nil
}

// session returns the name under which a session is shown: its number, and a digest of what tokens call
// it, which is nobody else's business.
func (r *recorder) session(sid string) string {
	if sid == "" {
		return ""
	}
	number, _ := numberOf(sid)
	sum := hmac.New(sha256.New, r.key[:])
	_, _ = sum.Write([]byte(sid))
	const enough = 4
	return fmt.Sprintf("%d-%x", number, sum.Sum(nil)[:enough])
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
	switch {
	case unsafe:
		body = dates.ReplaceAll(body, nil)
	case c.oauth:
		body = lasting(c.texts)
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

// lasting returns what a request to an endpoint of OAuth asks for: each time with
// another assertion of the client.
func lasting(texts map[string]string) []byte {
	form := url.Values{}
	for name, text := range texts {
		form.Set(name, text)
	}
	form.Del("client_assertion")
	return []byte(form.Encode())
}

// reads returns whose repository a call reads, empty if it reads none.
func reads(r *http.Request, c *call) string {
	switch c.method {
	case "com.atproto.repo.getRecord", "com.atproto.repo.listRecords", "com.atproto.repo.describeRepo":
		return short(r.URL.Query().Get("repo"))
	case "com.atproto.sync.getRepo", "com.atproto.sync.getRecord", "com.atproto.sync.getLatestCommit",
		"com.atproto.sync.getRepoStatus", "com.atproto.sync.getBlocks", "com.atproto.sync.getHead", "com.atproto.sync.getCheckout":
		return short(r.URL.Query().Get("did"))
	case "com.atproto.sync.listRepos":
		return "*" // everybody's newest commit
	}
	return ""
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
		var in struct {
			Writes []struct {
				Type string `json:"$type"`
				Rkey string `json:"rkey"`
			} `json:"writes"`
		}
		_ = json.Unmarshal(c.body, &in) // the server refuses what is not JSON
		for _, w := range in.Writes {
			if w.Type == c.method+"#create" && w.Rkey == "" {
				return true
			}
		}
	case "com.atproto.server.createInviteCode", "com.atproto.moderation.createReport",
		"chat.bsky.convo.sendMessage", "chat.bsky.convo.sendMessageBatch":
		return true
	}
	return false
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
func (f *Faults) gave(n *findings.Call, g *given) {
	n.Session, n.DID = f.recorder.session(g.Access.SID), g.Access.Sub
	if g.Refresh == nil {
		return
	}
	if generation, ok := g.Refresh.generation(); ok {
		n.Given, n.Life, n.Expires, n.Ends = generation, g.Access.life(), time.Unix(g.Access.EXP, 0), time.Unix(g.Refresh.EXP, 0)
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
