package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// verdict is the outcome of a check, or of a part of one.
type verdict struct {
	outcome Outcome
	detail  string
}

func passed() verdict { return verdict{outcome: Pass} }

func failed(format string, args ...any) verdict { return verdict{Fail, fmt.Sprintf(format, args...)} }

func differs(format string, args ...any) verdict {
	return verdict{Differs, fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) verdict {
	return verdict{Skipped, fmt.Sprintf(format, args...)}
}

// mostDetail bounds a detail, in characters: a server's texts are in it.
const mostDetail = 300

// brief returns a text in one line.
func brief(detail string) string {
	all := []rune(strings.Join(strings.Fields(detail), " "))
	if len(all) > mostDetail {
		return string(all[:mostDetail]) + "…"
	}
	return string(all)
}

// about puts what was asked before the detail.
func (v verdict) about(what string) verdict {
	if v.detail != "" {
		v.detail = what + ": " + v.detail
	}
	return v
}

// ranks are the outcomes from that which counts least.
var ranks = []Outcome{Skipped, Pass, Differs, Fail}

// worst returns the verdict over parts: the outcome that counts most, with the details of
// all parts that have it.
func worst(parts ...verdict) verdict {
	out := verdict{outcome: Skipped}
	if len(parts) == 0 {
		return passed()
	}
	for _, v := range parts {
		out.outcome = ranks[max(slices.Index(ranks, out.outcome), slices.Index(ranks, v.outcome))]
	}
	var details []string
	for _, v := range parts {
		if v.outcome == out.outcome && v.detail != "" && !slices.Contains(details, v.detail) {
			details = append(details, v.detail)
		}
	}
	out.detail = strings.Join(details, "; ")
	return out
}

// unanswered returns the verdict where there is no answer to judge.
func (a answer) unanswered() (verdict, bool) {
	switch {
	case a.err == nil:
		return verdict{}, false
	case errors.Is(a.err, errStopped), errors.Is(a.err, errLimited):
		return skipped("%v", a.err), true
	default:
		return failed("no answer: %v", a.err), true
	}
}

// is returns Fail unless the status is the one.
func (a answer) is(status int) verdict {
	if v, none := a.unanswered(); none {
		return v
	}
	if a.status != status {
		return failed("%s instead of %d", a.said(), status)
	}
	return passed()
}

// refused returns Fail unless the call was refused with status 400 or 401 and an error that
// clients can read; and Differs unless the status is the one and the name one of those.
// ExpiredToken is Fail where it is not among the names: a client that reads it refreshes, or
// drops its session.
func (a answer) refused(status int, names ...string) verdict {
	if v, none := a.unanswered(); none {
		return v
	}
	name := a.text("error")
	switch {
	case a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized:
		return failed("%s instead of %d %s", a.said(), status, strings.Join(names, " or "))
	case name == "":
		return failed("%d without an error that a client can read", a.status)
	case name == "ExpiredToken" && !slices.Contains(names, name):
		return failed("%s instead of %d %s", a.said(), status, strings.Join(names, " or "))
	case a.status != status || !slices.Contains(names, name):
		return differs("%s instead of %d %s", a.said(), status, strings.Join(names, " or "))
	}
	return passed()
}
