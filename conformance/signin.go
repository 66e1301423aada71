package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// invalidHandle is shown where a handle does not verify.
const invalidHandle = "handle.invalid"

func describes(ctx context.Context, r *runner) verdict {
	a := r.do(ctx, xrpc(http.MethodGet, describeServer, ""))
	if v := a.is(statusOK); v.outcome != Pass {
		return v
	}
	r.serverDID = a.text("did")
	_, domains := a.object["availableUserDomains"].([]any)
	switch _, err := syntax.ParseDID(r.serverDID); {
	case !a.isJSON():
		return failed("not JSON")
	case err != nil:
		return failed("did is %q", r.serverDID)
	case !domains:
		return failed("availableUserDomains is not an array")
	}
	return passed()
}

func resolves(ctx context.Context, r *runner) verdict {
	if r.main.handle == invalidHandle {
		return skipped("the handle does not verify: the session shows %s", invalidHandle)
	}
	a := r.do(ctx, xrpc(http.MethodGet, resolveHandle+"?handle="+url.QueryEscape(r.main.handle), ""))
	if v := a.is(statusOK); v.outcome != Pass {
		return v
	}
	if did := a.text("did"); did != r.main.did {
		return failed("%s resolves to %q, the session is of %s", r.main.handle, did, r.main.did)
	}
	return passed()
}

// whose returns Fail unless an answer is JSON with a handle and the DID, any DID if none is
// given.
func (a answer) whose(did string) verdict {
	if v := a.is(statusOK); v.outcome != Pass {
		return v
	}
	s := a.session()
	_, handleErr := syntax.ParseHandle(s.handle)
	_, didErr := syntax.ParseDID(s.did)
	switch {
	case !a.isJSON():
		return failed("not JSON: Content-Type %q", a.header.Get("Content-Type"))
	case handleErr != nil:
		return failed("handle is %q", s.handle)
	case didErr != nil:
		return failed("did is %q", s.did)
	case did != "" && did != s.did:
		return failed("did is %s, and was %s at the sign-in", s.did, did)
	}
	return passed()
}

// paired returns Fail unless an answer has both tokens.
func (a answer) paired() verdict {
	if v := a.is(statusOK); v.outcome != Pass {
		return v
	}
	for _, name := range []string{"accessJwt", "refreshJwt"} {
		if a.text(name) == "" {
			return failed("no %s", name)
		}
	}
	return passed()
}

func signInAnswer(_ context.Context, r *runner) verdict {
	return worst(r.first.whose(""), r.first.paired())
}

func didDoc(_ context.Context, r *runner) verdict {
	doc, ok := r.first.object["didDoc"].(map[string]any)
	if !ok {
		return skipped("no didDoc")
	}
	names, _ := doc["alsoKnownAs"].([]any)
	endpoint := ""
	services, _ := doc["service"].([]any)
	for _, service := range services {
		s, _ := service.(map[string]any)
		if id, _ := s["id"].(string); id == "#atproto_pds" || id == r.main.did+"#atproto_pds" {
			endpoint, _ = s["serviceEndpoint"].(string)
		}
	}
	switch {
	case doc["id"] != r.main.did:
		return failed("its id is %v", doc["id"])
	case r.main.handle != invalidHandle && !slices.Contains(names, any("at://"+r.main.handle)):
		return failed("alsoKnownAs lacks at://%s", r.main.handle)
	case originOf(endpoint) == "":
		return failed("no #atproto_pds with a URL")
	case originOf(endpoint) != r.origin:
		return differs("clients go on at %s", endpoint)
	}
	return passed()
}

// open returns Fail unless an identifier opens a session of the account; the session is spare.
func (r *runner) open(ctx context.Context, identifier string, more ...string) verdict {
	s, a := r.signIn(ctx, identifier, more...)
	v := worst(a.whose(r.main.did), a.paired())
	if v.outcome == Pass {
		r.spare = append(r.spare, s)
	}
	return v
}

func identifiers(ctx context.Context, r *runner) verdict {
	parts := []verdict{r.open(ctx, r.main.did).about("by DID")}
	if r.main.handle != invalidHandle {
		parts = append(parts, r.open(ctx, strings.ToUpper(r.main.handle)).about("by handle in capitals"))
	}
	return worst(parts...)
}

func signInByEmail(ctx context.Context, r *runner) verdict {
	address := r.first.text("email")
	if address == "" {
		return skipped("the session shows no address")
	}
	v := r.open(ctx, address)
	if v.outcome == Fail { // the Lexicon leaves it to the server
		v.outcome = Differs
	}
	return v
}

func unknownMembers(ctx context.Context, r *runner) verdict {
	return r.open(ctx, r.identifier, "exampleConformance", "unknown")
}

// wrong is a password that is nobody's.
func wrong() string { return "conformance-" + rand.Text() }

func wrongPassword(ctx context.Context, r *runner) verdict {
	a := r.do(ctx, signInCall(map[string]string{"identifier": r.identifier, "password": wrong()}))
	if v, none := a.unanswered(); none {
		return v
	}
	if a.status != http.StatusUnauthorized || a.text("error") != "AuthenticationRequired" {
		return failed("%s instead of 401 AuthenticationRequired", a.said())
	}
	r.unproven = a
	return passed()
}

func unknownAccount(ctx context.Context, r *runner) verdict {
	if r.unproven.status == 0 {
		return skipped("no answer to a wrong password to compare with")
	}
	a := r.do(ctx, signInCall(map[string]string{"identifier": strings.ToLower(rand.Text()) + ".invalid", "password": wrong()}))
	if v, none := a.unanswered(); none {
		return v
	}
	if a.status != r.unproven.status || !bytes.Equal(a.body, r.unproven.body) {
		return differs("%s “%s”, and at a wrong password %s “%s”", a.said(), a.text("message"), r.unproven.said(), r.unproven.text("message"))
	}
	return passed()
}

func malformedSignIn(ctx context.Context, r *runner) verdict {
	broken := signInCall(nil)
	broken.body = `{"identifier":`
	var parts []verdict
	for _, c := range []struct {
		what string
		call call
	}{{"broken JSON", broken}, {"no password", signInCall(map[string]string{"identifier": r.identifier})}} {
		a := r.do(ctx, c.call)
		v := a.is(http.StatusBadRequest)
		if v.outcome == Pass && a.text("error") == "" {
			v = failed("400 without an error that a client can read")
		}
		parts = append(parts, v.about(c.what))
	}
	return worst(parts...)
}
