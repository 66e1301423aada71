package findings

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// looks are when repositories were read with success, by account, and by client, whatever repository: it may
// name one by a handle, and needs no token.
type looks map[who][]time.Time

func looksOf(calls []Call) looks {
	all := looks{}
	for i := range calls {
		c := &calls[i]
		if c.Reads == "" || c.Lost || c.Status != 200 {
			continue
		}
		for _, w := range []who{{client: c.Client}, {clientID: c.ClientID}, {account: c.Reads}} {
			if w != (who{}) {
				all[w] = append(all[w], c.At)
			}
		}
	}
	return all
}

// between reports whether the client of a call may have looked after an earlier one began. It may have
// given that one up long before its end.
func (l looks) between(earlier, c *Call) bool {
	return slices.ContainsFunc([]who{{client: c.Client}, {clientID: c.ClientID}, {account: c.Account}}, func(w who) bool {
		i, _ := slices.BinarySearchFunc(l[w], c.At, time.Time.Compare)
		return i > 0 && l[w][i-1].After(earlier.At)
	})
}

// ofRepeats looks for calls that were repeated too early, or should not be repeated.
func ofRepeats(r *collector, calls []*Call, looked looks) {
	type request struct{ digest, caller string }
	last := map[string]*Call{}   // the last call that may have been done
	asked := map[request]*Call{} // the last call of a caller that can be distinguished
	for _, c := range calls {
		if c.Digest == "" {
			continue
		}
		if b := asked[request{c.Digest, c.Caller}]; b != nil && b.tooSoon(c) {
			r.add(Impatient, c, c.Session, "%s again %s after %d with Retry-After %s",
				c.Method, c.At.Sub(b.End).Round(time.Millisecond), b.Status, b.RetryAfter)
		} else if b := last[c.Digest]; b != nil && c.Unsafe && !c.undone() && !looked.between(b, c) {
			switch {
			case c.At.Before(b.End):
				if b.givenUp(c) {
					r.add(RepeatedPost, c, c.Session, "%s again, %s after one began that ended in %s",
						c.Method, c.At.Sub(b.At).Round(time.Millisecond), b.outcome())
				}
			case b.doubtful() && c.At.Sub(b.End) < again:
				r.add(RepeatedPost, c, c.Session, "%s again, %s after %s", c.Method, c.At.Sub(b.End).Round(time.Millisecond), b.outcome())
			}
		}
		if !c.undone() {
			last[c.Digest] = c
		}
		if c.Caller != "" {
			asked[request{c.Digest, c.Caller}] = c
		}
	}
}

// tooSoon reports whether the same call comes again before its caller should repeat it. The last
// tenth of the time does not count: clocks and timers are not exact.
func (c *Call) tooSoon(next *Call) bool {
	return !c.Lost && c.RetryAfter > 0 && !next.At.Before(c.End) && next.At.Sub(c.End) < c.RetryAfter*patient/10
}

// doubtful reports whether the client cannot know if the call was done.
func (c *Call) doubtful() bool { return c.Lost || c.Status >= 500 }

// givenUp reports whether a client that makes the same call again, ahead of the answer, gave up this one:
// soon after it began it may want both.
func (c *Call) givenUp(next *Call) bool { return c.Left || next.At.Sub(c.At) >= slow }

// undone reports whether the server did not do the call: it refused it, or said 503.
func (c *Call) undone() bool { return c.Status >= 400 && c.Status < 500 || c.Status == 503 }

// outcome returns what the client got, in words.
func (c *Call) outcome() string {
	if c.Lost {
		return "a lost answer"
	}
	return "a " + strconv.Itoa(c.Status)
}

// ofNonces looks for calls that were asked for a nonce and not repeated; now is when the last call of
// anybody began.
func ofNonces(r *collector, calls []*Call, now time.Time) {
	type request struct{ verb, method string }
	begun, seen, asked := map[request][]time.Time{}, map[request]int{}, map[request]*Call{}
	for _, c := range calls {
		key := request{c.Verb, c.Method}
		begun[key] = append(begun[key], c.At)
	}
	for _, c := range calls {
		key := request{c.Verb, c.Method}
		seen[key]++
		if c.Lost || c.Error != "use_dpop_nonce" {
			continue
		}
		b := asked[key]
		asked[key] = c
		if now.Sub(c.End) < again || b != nil && c.At.Sub(b.End) < again { // it may be the repeat, which is asked again
			continue
		}
		later := begun[key][seen[key]:]
		next, _ := slices.BinarySearchFunc(later, c.End, time.Time.Compare)
		if next == len(later) || later[next].Sub(c.End) >= again {
			r.add(NonceIgnored, c, c.Session, "%s was asked for another nonce, and did not come again", c.Method)
		}
	}
}

// opened is a session with its calls.
type opened struct {
	first, last *Call
	// failed is the last refresh, if its answer said nothing final and the client had not signed out.
	failed *Call
	out    bool // the client signed out
	over   bool // it did so while all was well, or knows that the session has ended
	// ends is when its newest refresh token expires, zero if that is not known.
	ends time.Time
	// instead: it was opened in the place of a session that the client dropped.
	instead bool
}

// note takes the next call of the session in.
func (s *opened) note(c *Call) {
	s.last = c
	if c.gave() {
		s.ends = c.Ends
	}
	switch {
	case c.Purpose == SignOut:
		s.out = true
		s.over = s.over || s.failed == nil
	case c.Purpose == Refresh && !s.out:
		s.failed = nil
		if c.transient() {
			s.failed = c
		}
	}
	s.over = s.over || c.Purpose == Refresh && c.final() || !c.Lost && c.Error == "AccountTakedown"
}

// endsBy reports whether a sign-in comes when the session's refresh token expires anyway.
func (s *opened) endsBy(in *Call) bool { return !s.ends.IsZero() && s.ends.Sub(in.At) <= soon }

// reason returns why a sign-in that comes next may have dropped the session, empty if nothing speaks for it.
func (s *opened) reason(in *Call) string {
	switch failed := s.failed; {
	case s.over || s.endsBy(in):
	case !s.out && s.last.transient() && (s.last.Purpose == Refresh || in.At.Sub(s.last.End) < byItself):
		return fmt.Sprintf("signed in again after %s to %s", s.last.outcome(), s.last.Method)
	case failed != nil && in.At.Sub(failed.End) < byItself:
		return fmt.Sprintf("signed in again, %s after %s to %s", in.At.Sub(failed.End).Round(time.Millisecond), failed.outcome(), failed.Method)
	}
	return ""
}

// leftAt reports whether the session was left behind when a sign-in came. If a refresh of it failed, it may be a
// person who gave it up.
func (s *opened) leftAt(in *Call) bool {
	return !s.over && s.failed == nil && !s.endsBy(in) && s.last.At.Before(in.At)
}

// used returns when each session was last used. A sign-out ends it, and is no use: some libraries sign out of
// the old session once they have a new one.
func used(calls []*Call) map[string]time.Time {
	last := map[string]time.Time{}
	for _, c := range calls {
		if c.Purpose != SignOut {
			last[c.Session] = c.At
		}
	}
	return last
}

// doubts are sessions of which a call failed, the last one at the end. Each may be dropped by one sign-in.
type doubts []*opened

// note takes in that there was another call of a session.
func (d *doubts) note(s *opened) {
	if !s.last.transient() || s.last.Purpose == SignOut || len(*d) > 0 && (*d)[len(*d)-1] == s {
		return
	}
	*d = append(slices.DeleteFunc(*d, func(old *opened) bool { return old == s }), s)
}

// drop takes out the session that a sign-in drops: that which failed last, of those that do not go on.
func (d *doubts) drop(r *collector, in *Call, used map[string]time.Time) bool {
	*d = slices.DeleteFunc(*d, func(s *opened) bool { return s.reason(in) == "" })
	for i, s := range slices.Backward(*d) {
		if used[s.first.Session].Before(in.At) {
			r.add(Dropped, in, s.first.Session, "%s", s.reason(in))
			*d = slices.Delete(*d, i, i+1)
			return true
		}
	}
	return false
}

// ofSignIns looks for sessions of a client that it dropped, or left behind.
func ofSignIns(r *collector, calls []*Call) {
	sessions := map[string]*opened{}
	var order []*opened
	var doubtful doubts
	last := used(calls)
	for _, c := range calls {
		if c.Session == "" || c.Purpose == SignIn && !c.gave() { // it never came to the client
			continue
		}
		s := sessions[c.Session]
		if s == nil {
			s = &opened{first: c, instead: c.Purpose == SignIn && doubtful.drop(r, c, last)}
			sessions[c.Session] = s
			order = append(order, s)
		}
		s.note(c)
		doubtful.note(s)
	}
	var left []*Call // sign-ins that left a session behind
	for i, s := range order[min(1, len(order)):] {
		if in := s.first; in.Purpose == SignIn && !s.instead && order[i].leftAt(in) {
			left = append(left, in)
		}
	}
	if len(left) < piled {
		return
	}
	for _, c := range left {
		r.add(PilingUp, c, "", "signed in again, and the session before has not ended")
	}
}
