package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// health is a method whose name is not an NSID.
const health = "_health"

// misnamed returns what is wrong with the form of the names in a fault.
func (f Fault) misnamed() (all []string) {
	for _, name := range f.Methods {
		if problem := methodProblem(name); problem != "" {
			all = append(all, fmt.Sprintf("method %q: %s", name, problem))
		}
	}
	for _, name := range f.Accounts {
		if _, err := syntax.ParseAtIdentifier(name); err != nil {
			all = append(all, fmt.Sprintf("account %q: write a handle such as alice.test, or a DID", name))
		}
	}
	return all
}

// methodProblem returns what is wrong with the form of a method's name, empty if nothing is.
func methodProblem(name string) string {
	begin, star := strings.CutSuffix(name, "*")
	nsid := begin
	if star {
		nsid = complete(begin)
	}
	_, err := syntax.ParseNSID(nsid)
	switch {
	case strings.Contains(begin, "*"):
		return "a star may be its last character only"
	case strings.HasPrefix(name, "/xrpc/"):
		return "write the NSID alone, without /xrpc/"
	case err == nil, name == "*", name == Refresh, name == SignIn, name == health, strings.HasPrefix(name, "/"):
		return ""
	}
	return "write an NSID such as com.atproto.server.getSession, a path such as /oauth/token, " + Refresh + " or " + SignIn
}

// complete returns an NSID that begins so, if there is one.
func complete(begin string) string {
	parts := strings.Split(begin, ".")
	if len(parts) == 1 { // such as refr*
		return ""
	}
	if parts[len(parts)-1] == "" {
		parts[len(parts)-1] = "x"
	}
	for len(parts) < 3 { // an NSID has three parts or more
		parts = append(parts, "x")
	}
	return strings.Join(parts, ".")
}

// ownGroups are the groups of methods that no other service has.
var ownGroups = []string{"com.atproto.server.", "com.atproto.repo.", "com.atproto.identity."}

// checkRoutes returns which names of a plan no call to a server with these routes has: paths, and
// methods that a server passes on to no service.
func (p Plan) checkRoutes(routes []string) error {
	var wrong []error
	for i, f := range p.Faults {
		for _, name := range f.Methods {
			if !served(name, routes) {
				wrong = append(wrong, fmt.Errorf("fault %d (%s): method %q: the server has no such method or path", i+1, f.Kind, name))
			}
		}
	}
	return errors.Join(wrong...)
}

// served reports whether there can be calls with a name.
func served(name string, routes []string) bool {
	isOwn := func(group string) bool { return strings.HasPrefix(name, group) }
	if !strings.HasPrefix(name, "/") && !slices.ContainsFunc(ownGroups, isOwn) {
		return true
	}
	begin, star := strings.CutSuffix(name, "*")
	return slices.ContainsFunc(routes, func(route string) bool {
		base, _, below := strings.Cut(route, "{")
		below = below || route != "/" && strings.HasSuffix(route, "/")
		return name == route || star && strings.HasPrefix(base, begin) || below && strings.HasPrefix(name, base)
	})
}
