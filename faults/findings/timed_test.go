package findings_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"nestbox/faults/findings"
)

// at is a call at a time after the begin of a test that takes so long.
func at(after, took time.Duration, c findings.Call) findings.Call {
	c.At = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC).Add(after)
	c.End, c.Client, c.Account, c.DID = c.At.Add(took), "app/1", "did:plc:a", "did:plc:a"
	if c.Session == "" {
		c.Session = "s1"
	}
	if c.Status == 0 {
		c.Status = 200
	}
	return c
}

// finds fails the test unless exactly these kinds are found in calls.
func finds(t *testing.T, name string, calls []findings.Call, want ...findings.Kind) {
	t.Helper()
	if found := findings.Of(calls); !slices.Equal(kinds(found), want) {
		t.Errorf("%s: %+v, want %v", name, found, want)
	}
}

// TestAtOnce: only what began while another refresh had neither an answer nor been given up is at once.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	const ms, s = time.Millisecond, time.Second
	begin := at(0, quick, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None, Given: 0})
	refresh := func(after, took time.Duration, lost bool) findings.Call {
		return at(time.Minute+after, took, findings.Call{
			Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Generation: 0, Given: 1, Lost: lost,
		})
	}
	for name, c := range map[string]struct {
		first, second findings.Call
		want          []findings.Kind
	}{
		"given up":                      {refresh(0, 12*s, true), refresh(10*s, quick, false), nil},
		"given up soon":                 {refresh(0, 1500*ms, true), refresh(s, quick, false), nil},
		"a proxy took the slow answer":  {refresh(0, 30*s, false), refresh(10*s, quick, false), nil},
		"its connection ended":          {refresh(0, quick, true), refresh(quick, quick, false), nil},
		"one after the other, too soon": {refresh(0, quick, false), refresh(300*ms, quick, false), nil},
		"one after the other":           {refresh(0, quick, false), refresh(2*s, quick, false), []findings.Kind{findings.Unused}},
		"at once":                       {refresh(0, quick, false), refresh(20*ms, quick, false), []findings.Kind{findings.AtOnce}},
		"at once, and slow":             {refresh(0, 3*s, false), refresh(s, 3*s, true), []findings.Kind{findings.AtOnce}},
	} {
		finds(t, name, []findings.Call{begin, c.first, c.second}, c.want...)
	}
}

// TestRetryAfter: only the caller that was asked to wait can come too soon; of tabs nobody knows which one
// comes.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	call := func(after time.Duration, caller string, status int) findings.Call {
		c := at(after, quick, findings.Call{
			Method: "getTimeline", Token: findings.AccessToken, Generation: findings.None, Given: findings.None, Digest: "read", Caller: caller, Status: status,
		})
		if status != 200 {
			c.RetryAfter = 5 * time.Second
		}
		return c
	}
	const s = time.Second
	impatient := []findings.Kind{findings.Impatient}
	finds(t, "two tabs", []findings.Call{call(0, "", 429), call(s, "", 429), call(2*s, "", 200)})
	finds(t, "two programs", []findings.Call{call(0, "a", 429), call(s, "b", 503), call(2*s, "c", 200)})
	finds(t, "one that waits", []findings.Call{call(0, "a", 429), call(s, "b", 200), call(6*s, "a", 200)})
	finds(t, "one that does not", []findings.Call{call(0, "a", 503), call(s, "a", 200)}, impatient...)
	finds(t, "one beside another", []findings.Call{call(0, "a", 429), call(s, "b", 200), call(2*s, "a", 200)}, impatient...)
}

// TestDropped: a session is dropped though the client signs out of it, or another tab calls, on the way; a
// person who signs out and in again drops nothing.
func TestDropped(t *testing.T) {
	t.Parallel()
	const ms, s = time.Millisecond, time.Second
	in := func(after time.Duration, session string) findings.Call {
		return at(after, quick, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None, Session: session})
	}
	refresh := func(after time.Duration, status int) findings.Call {
		c := findings.Call{Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Given: findings.None, Status: status}
		if status == 200 {
			c.Given = 1
		}
		return at(after, quick, c)
	}
	out := func(after time.Duration) findings.Call {
		return at(after, quick, findings.Call{Purpose: findings.SignOut, Method: "deleteSession", Token: findings.RefreshToken, Given: findings.None})
	}
	tab := func(after time.Duration) findings.Call {
		return at(after, quick, findings.Call{Method: "getTimeline", Token: findings.AccessToken, Generation: findings.None, Given: findings.None})
	}
	failed := func(after time.Duration) findings.Call {
		c := tab(after)
		c.Status = 503
		return c
	}
	of := func(session string, c findings.Call) findings.Call {
		c.Session = session
		return c
	}
	lost := out(6 * s)
	lost.Lost = true
	dropped := []findings.Kind{findings.Dropped}
	for name, c := range map[string]struct {
		calls []findings.Call // after a sign-in
		want  []findings.Kind
	}{
		"at once":               {[]findings.Call{refresh(s, 503), in(5*s, "s2")}, []findings.Kind{findings.Dropped}},
		"with a sign-out":       {[]findings.Call{refresh(s, 503), out(1100 * ms), in(1200*ms, "s2")}, []findings.Kind{findings.Dropped}},
		"beside another tab":    {[]findings.Call{refresh(s, 503), tab(1100 * ms), in(1200*ms, "s2")}, []findings.Kind{findings.Dropped}},
		"by a person":           {[]findings.Call{refresh(s, 503), out(1100 * ms), in(8*s, "s2")}, nil},
		"after another refresh": {[]findings.Call{refresh(s, 503), refresh(1500*ms, 200), out(2 * s), in(2500*ms, "s2")}, nil},
		"after the sign-out":    {[]findings.Call{out(s), refresh(1100*ms, 503), in(1200*ms, "s2")}, nil},
		"after the end":         {[]findings.Call{refresh(s, 503), refused(1100 * ms), in(1200*ms, "s2")}, nil},
		"another device later":  {[]findings.Call{failed(s), in(5*s, "s2")}, nil},
		"by itself":             {[]findings.Call{failed(s), in(1500*ms, "s2")}, []findings.Kind{findings.Dropped}},
		"on another device":     {[]findings.Call{refresh(s, 503), in(1500*ms, "s2"), refresh(2*s, 200)}, nil},
		// Libraries may sign out of the old session once they have a new one.
		"signed out behind it":           {[]findings.Call{refresh(s, 503), in(5*s, "s2"), out(5100 * ms)}, dropped},
		"in vain, and in again":          {[]findings.Call{refresh(s, 503), in(5*s, "s2"), lost, in(6100*ms, "s3"), of("s2", out(6200*ms))}, dropped},
		"by itself, and out":             {[]findings.Call{failed(s), in(1500*ms, "s2"), out(1600 * ms)}, dropped},
		"out, and on":                    {[]findings.Call{refresh(s, 503), in(5*s, "s2"), out(5100 * ms), tab(6 * s)}, nil},
		"changed by a person, and out":   {[]findings.Call{tab(s), in(5*s, "s2"), out(5100 * ms), in(9*s, "s3"), of("s2", out(9100*ms))}, nil},
		"another one opened since":       {[]findings.Call{in(s, "s2"), refresh(2*s, 503), in(5*s, "s3"), of("s2", tab(6*s))}, dropped},
		"two others opened since":        {[]findings.Call{in(s, "s2"), in(s, "s4"), refresh(2*s, 503), in(5*s, "s3"), of("s2", tab(6*s)), of("s4", tab(6*s))}, dropped},
		"another one, and it goes on":    {[]findings.Call{in(s, "s2"), refresh(2*s, 503), in(5*s, "s3"), of("s2", tab(6*s)), tab(7 * s)}, nil},
		"another one, ended in between":  {[]findings.Call{in(s, "s2"), refresh(2*s, 503), refused(3 * s), in(5*s, "s3"), of("s2", tab(6*s))}, nil},
		"both failed, the other goes on": {[]findings.Call{in(s, "s2"), refresh(2*s, 503), of("s2", refresh(3*s, 503)), in(5*s, "s3"), of("s2", tab(6*s))}, dropped},
	} {
		finds(t, name, append([]findings.Call{in(0, "s1")}, c.calls...), c.want...)
	}
	// One sign-in takes the place of one session.
	once := findings.Of([]findings.Call{in(0, "s1"), in(s, "s2"), refresh(2*s, 503), in(5*s, "s3"), in(6*s, "s4"), of("s2", tab(7*s)), of("s3", tab(7*s))})
	if len(once) != 1 || once[0].Kind != findings.Dropped || once[0].Times != 1 || once[0].Session != "s1" {
		t.Errorf("two devices sign in: %+v", once)
	}
}

// TestGivenUp: a client that gives a slow refresh up, and keeps its connection, may repeat it.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	const s = time.Second
	in := at(0, quick, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None})
	refresh := func(after, took time.Duration) findings.Call {
		return at(after, took, findings.Call{Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Given: 1})
	}
	finds(t, "slow", []findings.Call{in, refresh(s, 5*s), refresh(8*s, quick)})
	finds(t, "quick", []findings.Call{in, refresh(s, quick), refresh(8*s, quick)}, findings.Unused)
}

// TestOtherTab: a tab that wakes after another one learned that the session has ended makes its calls at once,
// and learns of it by its own refresh.
func TestOtherTab(t *testing.T) {
	t.Parallel()
	const s = time.Second
	call := func(after time.Duration) findings.Call {
		return at(after, quick, findings.Call{
			Method: "getTimeline", Token: findings.AccessToken, Generation: findings.None, Given: findings.None, Status: 400, Error: "ExpiredToken",
		})
	}
	out := at(s, quick, findings.Call{Purpose: findings.SignOut, Method: "deleteSession", Token: findings.RefreshToken, Given: findings.None})
	for name, end := range map[string]findings.Call{"ended": refused(s), "signed out": out} {
		calls := []findings.Call{at(0, quick, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None}), end}
		for i := range 12 {
			calls = append(calls, call(3*s+time.Duration(i)*time.Millisecond))
		}
		finds(t, name, append(calls, refused(4*s)))
		for i := range 12 {
			calls = append(calls, call(5*s+time.Duration(i)*s))
		}
		finds(t, name+", and on", calls, findings.Kept)
	}
}

// TestNonces: a call that was asked for a nonce comes again; the repeat may be asked, too.
func TestNonces(t *testing.T) {
	t.Parallel()
	call := func(after time.Duration, asked bool) findings.Call {
		c := findings.Call{Verb: "GET", Method: "getTimeline", Token: findings.AccessToken, Generation: findings.None, Given: findings.None}
		if asked {
			c.Status, c.Error = 401, "use_dpop_nonce"
		}
		return at(after, quick, c)
	}
	const s = time.Second
	later := call(2*time.Minute, false)
	finds(t, "the repeat", []findings.Call{call(s, true), call(2*s, true), later})
	finds(t, "no repeat", []findings.Call{call(s, true), later}, findings.NonceIgnored)
}

// TestRepeatedPost: a post that comes twice counts, unless the client looked before, or the server refused
// it.
func TestRepeatedPost(t *testing.T) {
	t.Parallel()
	const s = time.Second
	slow := func(after, took time.Duration, status int, lost bool) findings.Call {
		return at(after, took, findings.Call{
			Verb: "POST", Method: "com.atproto.repo.createRecord", Unsafe: true, Digest: "post", Token: findings.AccessToken,
			Generation: findings.None, Given: findings.None, Status: status, Lost: lost,
		})
	}
	post := func(after time.Duration, status int) findings.Call { return slow(after, quick, status, false) }
	look := at(2*time.Second, quick, findings.Call{
		Verb: "GET", Method: "com.atproto.repo.listRecords", Digest: "look", Generation: findings.None, Given: findings.None, Reads: "did:plc:a",
	})
	left := slow(s, 20*s, 200, true)
	left.Left = true
	finds(t, "twice", []findings.Call{post(time.Second, 502), post(3*time.Second, 200)}, findings.RepeatedPost)
	finds(t, "looked", []findings.Call{post(time.Second, 502), look, post(3*time.Second, 200)})
	finds(t, "refused", []findings.Call{post(time.Second, 502), post(3*time.Second, 400)})
	for name, c := range map[string]struct {
		first, second findings.Call
		want          []findings.Kind
	}{
		"ahead of the answer":              {slow(s, 20*s, 200, false), post(11*s, 200), []findings.Kind{findings.RepeatedPost}},
		"ahead of one that cannot tell":    {slow(s, 20*s, 504, false), post(11*s, 200), []findings.Kind{findings.RepeatedPost}},
		"ahead of the end of one":          {left, post(3*s, 200), []findings.Kind{findings.RepeatedPost}},
		"both wanted, and one lost later":  {slow(s, 20*s, 200, true), post(3*s, 200), nil},
		"ahead of an answer that is no":    {slow(s, 20*s, 400, false), post(11*s, 200), nil},
		"ahead of a no that is lost":       {slow(s, 20*s, 400, true), post(11*s, 200), nil},
		"ahead of a 503":                   {slow(s, 20*s, 503, false), post(11*s, 200), nil},
		"after one that was refused":       {slow(s, 5*s, 400, false), post(11*s, 200), nil},
		"after one that was answered":      {slow(s, 5*s, 200, false), post(11*s, 200), nil},
		"at once":                          {slow(s, 20*s, 200, false), post(1100*time.Millisecond, 200), nil},
		"ahead of the answer, and in vain": {slow(s, 20*s, 200, false), post(11*s, 400), nil},
	} {
		finds(t, name, []findings.Call{c.first, c.second}, c.want...)
	}
	finds(t, "looked ahead of the answer", []findings.Call{slow(s, 20*s, 200, false), look, post(11*s, 200)})
	noticed := slow(s, 1100*time.Millisecond, 200, true) // the client left before the look
	finds(t, "left, and looked", []findings.Call{noticed, look, post(3*s, 200)})
	finds(t, "looked ahead of a late 502", []findings.Call{slow(s, 8*s, 502, false), look, post(10*s, 200)})

	// Who looks, and what came in between.
	by := func(change func(*findings.Call)) findings.Call {
		c := look
		c.Account, c.DID, c.Client, c.Session, c.Reads = "", "", "other/1", "", "bob.test"
		change(&c)
		return c
	}
	between := func(status int) findings.Call { return post(2*s, status) }
	for name, c := range map[string]struct {
		between findings.Call
		want    []findings.Kind
	}{
		"without a token, by the handle": {by(func(c *findings.Call) { c.Client = "app/1" }), nil},
		"another program, by the DID":    {by(func(c *findings.Call) { c.Reads = "did:plc:a" }), nil},
		"somebody at another account":    {by(func(*findings.Call) {}), []findings.Kind{findings.RepeatedPost}},
		"in vain":                        {by(func(c *findings.Call) { c.Client, c.Status = "app/1", 503 }), []findings.Kind{findings.RepeatedPost}},
		"lost":                           {by(func(c *findings.Call) { c.Client, c.Lost = "app/1", true }), []findings.Kind{findings.RepeatedPost}},
		"another read":                   {by(func(c *findings.Call) { c.Client, c.Reads = "app/1", "" }), []findings.Kind{findings.RepeatedPost}},
		"refused in between":             {between(400), []findings.Kind{findings.RepeatedPost}},
		"too many in between":            {between(429), []findings.Kind{findings.RepeatedPost}},
		"a nonce in between":             {between(401), []findings.Kind{findings.RepeatedPost}},
		"a 503 in between":               {between(503), []findings.Kind{findings.RepeatedPost}},
	} {
		finds(t, name, []findings.Call{post(s, 502), c.between, post(3*s, 200)}, c.want...)
	}
}

// TestMoved: a client may use an old address until it can know that there is a new one.
func TestMoved(t *testing.T) {
	t.Parallel()
	told := at(0, 0, findings.Call{}).At
	for after, want := range map[time.Duration][]findings.Kind{0: nil, 900 * time.Millisecond: nil, time.Second: {findings.MovedAddress}} {
		finds(t, after.String(), []findings.Call{at(after, quick, findings.Call{
			Method: "com.atproto.repo.describeRepo", Generation: findings.None, Given: findings.None, Moved: "the handle a.test, which is b.test now", Told: told,
		})}, want...)
	}
}

// TestLeft: a session that is left behind counts, unless its refresh token expires by itself.
func TestLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life time.Duration // of the refresh tokens
		want []findings.Kind
	}{
		"for long":    {time.Hour, []findings.Kind{findings.PilingUp}},
		"expired":     {9 * time.Minute, nil},
		"almost":      {10*time.Minute + 30*time.Second, nil},
		"not by then": {12 * time.Minute, []findings.Kind{findings.PilingUp}},
	} {
		var calls []findings.Call
		for i := range 5 {
			in := at(time.Duration(i)*10*time.Minute, quick, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None})
			in.Session, in.Ends = fmt.Sprint("s", i), in.End.Add(c.life)
			calls = append(calls, in)
		}
		finds(t, name, calls, c.want...)
	}
}

// refused is a refresh that is refused for good.
func refused(after time.Duration) findings.Call {
	return at(after, quick, findings.Call{
		Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Given: findings.None, Status: 400, Error: "ExpiredToken",
	})
}
