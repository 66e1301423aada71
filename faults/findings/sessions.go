package findings

import "time"

// pair is what a client has got of a session.
type pair struct {
	generation int64
	at         time.Time     // when it came
	life       time.Duration // of its access token
}

// have returns the newest pair that had come to the client by a time, and false if none had.
func have(calls []*Call, by time.Time) (p pair, ok bool) {
	p.generation = None
	for _, c := range calls {
		if c.gave() && !c.End.After(by) && c.Given >= p.generation {
			if c.Given > p.generation || c.End.After(p.at) {
				p = pair{c.Given, c.End, c.Life}
			}
			ok = true
		}
	}
	return p, ok
}

// ofRefreshes looks at the refreshes of a session: at once, early, stale, unused.
func ofRefreshes(r *collector, session string, calls []*Call) {
	used := int64(None)   // the newest generation that was presented
	failed := time.Time{} // when a call last learned that its access token is no good
	var busy *Call        // the refresh that began last with its token, and was answered
	var before []*Call
	for _, c := range calls {
		if c.expired() && c.End.After(failed) {
			failed = c.End
		}
		if c.Purpose != Refresh || c.Token != RefreshToken || c.Generation == None {
			before = append(before, c)
			continue
		}
		p, known := have(before, c.At.Add(-settle))
		switch {
		case busy != nil && busy.Generation == c.Generation && (c.At.Before(busy.End) || busy.gave() && c.At.Before(busy.End.Add(settle))):
			r.add(AtOnce, c, session, "refresh with generation %d, while another had begun %s before",
				c.Generation, c.At.Sub(busy.At).Round(time.Millisecond))
		case known && c.Generation < p.generation && c.Generation < used:
			r.add(Stale, c, session, "refresh with generation %d, after generation %d was used", c.Generation, used)
		case known && c.Generation < p.generation:
			r.add(Unused, c, session, "refresh with generation %d, though generation %d had come %s before",
				c.Generation, p.generation, c.At.Sub(p.at).Round(time.Millisecond))
		case known && p.life > 0 && c.At.Sub(p.at) < p.life/2 && failed.Before(p.at) && !lostSince(before, p.at):
			r.add(Early, c, session, "refresh %s after a token came that lives %s", c.At.Sub(p.at).Round(time.Second), p.life)
		}
		if busy == nil || busy.Generation != c.Generation || !c.At.Before(busy.End) {
			busy = c
		}
		used = max(used, c.Generation)
		before = append(before, c)
	}
}

// lostSince reports whether a refresh was begun after a time that has not given a pair: the next one
// repeats it.
func lostSince(calls []*Call, after time.Time) bool {
	for _, c := range calls {
		if c.Purpose == Refresh && !c.At.Before(after) && !c.gave() {
			return true
		}
	}
	return false
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

// ofEnd looks for calls with a session that the client knows has ended.
func ofEnd(r *collector, session string, calls []*Call) {
	var end *Call
	after := 0
	for _, c := range calls {
		if end == nil {
			if c.final() {
				end = c
			}
			continue
		}
		if c.Purpose == SignOut || !c.At.After(end.End.Add(settle)) {
			continue
		}
		if after++; after > goOn {
			r.add(Kept, c, session, "%s, %s after the session had ended (%s %d %s)",
				c.Method, c.At.Sub(end.End).Round(time.Second), end.Method, end.Status, end.Error)
		}
	}
}
