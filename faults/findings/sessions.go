package findings

import (
	"slices"
	"time"
)

// pair is what a client has got of a session.
type pair struct {
	generation int64
	at         time.Time     // when it came
	life       time.Duration // of its access token
	expires    time.Time     // its access token, as the client sees it
}

// arrivals are the pairs that came to the client of a session, as far as it surely waited for them.
type arrivals struct {
	calls  []*Call // that gave those which are still to come, in the order in which they do
	newest pair
	some   bool
}

func arrivalsOf(calls []*Call) *arrivals {
	a := &arrivals{newest: pair{generation: None}}
	for _, c := range calls {
		if c.gave() && c.End.Sub(c.At) < slow {
			a.calls = append(a.calls, c)
		}
	}
	slices.SortStableFunc(a.calls, func(b, c *Call) int { return b.End.Compare(c.End) })
	return a
}

// by returns the newest pair that had come by a time, and false if none had. A time must not be before the
// one that was asked for last.
func (a *arrivals) by(at time.Time) (pair, bool) {
	for len(a.calls) > 0 && !a.calls[0].End.After(at) {
		if c := a.calls[0]; c.Given >= a.newest.generation {
			a.newest = pair{c.Given, c.End, c.Life, c.Expires}
		}
		a.calls, a.some = a.calls[1:], true
	}
	return a.newest, a.some
}

// ofRefreshes looks at the refreshes of a session: at once, early, stale, unused.
func ofRefreshes(r *collector, session string, calls []*Call) {
	used := int64(None)   // the newest generation that was presented
	failed := time.Time{} // when a call last learned that its access token is no good
	vain := time.Time{}   // when the last refresh began that gave no pair: the next one repeats it
	var busy *Call        // the answered refresh with its token that ends last
	came := arrivalsOf(calls)
	for _, c := range calls {
		if c.expired() && c.End.After(failed) {
			failed = c.End
		}
		if c.Purpose != Refresh {
			continue
		}
		if c.Token == RefreshToken && c.Generation != None {
			p, known := came.by(c.At.Add(-settle))
			switch {
			case busy != nil && busy.Generation == c.Generation && c.At.Before(busy.End) && c.At.Sub(busy.At) < together:
				r.add(AtOnce, c, session, "refresh with generation %d, while another had begun %s before",
					c.Generation, c.At.Sub(busy.At).Round(time.Millisecond))
			case known && c.Generation < p.generation && c.Generation < used:
				r.add(Stale, c, session, "refresh with generation %d, after generation %d was used", c.Generation, used)
			case known && c.Generation < p.generation:
				r.add(Unused, c, session, "refresh with generation %d, though generation %d had come %s before",
					c.Generation, p.generation, c.At.Sub(p.at).Round(time.Millisecond))
			case known && p.life > 0 && c.At.Sub(p.at) < p.life/earlyPart && p.expires.Sub(c.At) > soon && failed.Before(p.at) && vain.Before(p.at):
				r.add(Early, c, session, "refresh %s after a token came that lives %s", c.At.Sub(p.at).Round(time.Second), p.life)
			}
			// A client that gave a call up, or lost its connection, may repeat it at once.
			if !c.Lost && (busy == nil || busy.Generation != c.Generation || c.End.After(busy.End)) {
				busy = c
			}
			used = max(used, c.Generation)
		}
		if !c.gave() {
			vain = c.At
		}
	}
}

// ofTokens looks for the wrong one of two tokens.
func ofTokens(r *collector, session string, calls []*Call) {
	for _, c := range calls {
		needs := AccessToken
		if c.Purpose == Refresh || c.Purpose == SignOut {
			needs = RefreshToken
		}
		if c.Token == "" || c.Token == needs || c.Method == "/oauth/revoke" {
			continue
		}
		r.add(WrongToken, c, session, "%s with the %s token", c.Method, c.Token)
	}
}

// ofEnd looks for calls with a session that the client knows has ended, and for a client that never
// refreshes. Tabs that do not know of each other may each try once.
func ofEnd(r *collector, session string, calls []*Call) {
	var end *Call     // what told the client that the session has ended
	var expired *Call // the first call since a refresh whose access token was no good
	newest := int64(None)
	refused, idle := 0, 0 // refreshes after the end, and calls without a refresh
	quiet := time.Time{}  // what begins before it may not know of the last refresh
	for _, c := range calls {
		known := !c.At.Before(quiet)
		switch {
		case c.gave():
			newest = max(newest, c.Given)
			end, expired, refused, idle = nil, nil, 0, 0
		case c.Purpose == SignOut || c.Purpose == Refresh:
			final := c.final() && (c.Purpose == SignOut || c.Generation == None || c.Generation >= newest)
			switch {
			case end == nil && final:
				end = c
			case end != nil && c.Purpose == Refresh && c.At.After(end.End.Add(settle)):
				if refused++; refused > goOn {
					r.addKept(session, c, end)
				}
			}
			expired, idle = nil, 0
		case c.Status == 200 && !c.Lost && (end == nil || end.Error == "AccountTakedown"): // the token is good, or good again
			end, expired, refused, idle = nil, nil, 0, 0
		case known && (c.over() || end != nil && end.Error == "AccountTakedown" && c.Error == end.Error):
			if expired == nil {
				expired = c
			}
			if !c.At.After(expired.End.Add(settle)) { // calls of a tab at once
				continue
			}
			if idle++; idle <= goOn {
				continue
			}
			if end != nil {
				r.addKept(session, c, end)
				continue
			}
			r.add(Kept, c, session, "%s, %s after the access token was refused (%d %s), and no refresh",
				c.Method, c.At.Sub(expired.End).Round(time.Second), expired.Status, expired.Error)
		}
		if after := c.End.Add(settle); (c.Purpose == Refresh || c.Purpose == SignOut) && after.After(quiet) {
			quiet = after
		}
	}
}

func (r *collector) addKept(session string, c, end *Call) {
	r.add(Kept, c, session, "%s, %s after the session had ended (%s %d %s)",
		c.Method, c.At.Sub(end.End).Round(time.Second), end.Method, end.Status, end.Error)
}
