package oauth

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/oauth/scope"
	"nestbox/schema"
	"nestbox/session"
)

// Take takes a permission back that an account's owner allowed a client, compared by its
// meaning. Calls that need it are refused at once; the client's sessions live on, and their
// next refresh names what is left. What cannot be unticked stays, and what was not allowed
// is not an error.
func (s *Service) Take(ctx context.Context, a *account.Account, clientID, permission string) error {
	live, err := s.Sessions.Store.List(ctx, a.ID)
	if err != nil {
		return err
	}
	var includes []syntax.NSID
	for i := range live {
		if g := live[i].Grant; g != nil && g.ClientID == clientID {
			includes = append(includes, scope.Parse(g.Granted).Includes()...)
		}
	}
	sets, err := s.known(ctx, includes)
	if err != nil {
		return err
	}
	e := account.NewEntry(ctx, s.now(), account.EntryPermissionTaken, account.ActorOwner)
	e.Reason = clientID + " " + permission
	_, err = s.Store.Narrow(ctx, a.ID, clientID, Narrowing{
		Grant:  func(g session.Grant) session.Grant { return narrowed(g, permission, sets) },
		Scopes: func(text string) string { return scope.Parse(text).Untick(permission).String() },
		Entry:  e,
	})
	return err
}

// knownWait bounds the wait for permission sets that are not known.
const knownWait = 3 * time.Second

// known returns the permission sets that are known, or can be found out soon. Errors are the
// store's.
func (s *Service) known(ctx context.Context, includes []syntax.NSID) (schema.Sets, error) {
	slices.Sort(includes)
	includes = slices.Compact(includes)
	sets, err := s.Schemas.Granted(ctx, includes)
	if err != nil {
		return sets, err
	}
	ctx, cancel := context.WithTimeout(ctx, knownWait)
	defer cancel()
	for _, nsid := range includes {
		if sets.Sets[nsid] != nil {
			continue
		}
		if found, err := s.Schemas.PermissionSets(ctx, []syntax.NSID{nsid}); err == nil {
			maps.Copy(sets.Sets, found.Sets)
			maps.Copy(sets.Versions, found.Versions)
		}
	}
	return sets, nil
}

// narrowed returns a grant without a permission. A permission set that is left and not known
// goes on as it was if what was taken was no set; otherwise it allows nothing until it is
// known.
func narrowed(g session.Grant, permission string, known schema.Sets) session.Grant {
	was := scope.Parse(g.Granted)
	left := was.Untick(permission)
	if left.Len() == was.Len() {
		return g
	}
	g.Granted = left.String()
	g.Version++
	all := !slices.ContainsFunc(left.Includes(), func(nsid syntax.NSID) bool { return known.Sets[nsid] == nil })
	effective, versions, err := expand(left, known)
	if (!all || err != nil) && len(scope.Parse(permission).Includes()) == 0 {
		g.Effective = scope.Parse(g.Effective).Untick(permission).String()
		return g
	}
	if err != nil { // the sets that are left are too large
		effective, versions = g.Granted, ""
	}
	g.Effective, g.Sets = effective, versions
	return g
}
