package oauth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"nestbox/oauth/scope"
	"nestbox/schema"
	"nestbox/session"
)

// expandNew returns what a scope that is asked for means, with permission sets replaced by what
// they expand to, and the versions of the sets. It waits for the network if a set is not
// known. Errors: those of schema.Service.PermissionSets, scope.ErrLimit.
func (s *Service) expandNew(ctx context.Context, text string) (effective, versions string, err error) {
	set := scope.Parse(text)
	if len(set.Includes()) == 0 {
		return set.String(), "", nil
	}
	sets, err := s.Schemas.PermissionSets(ctx, set.Includes())
	if err != nil {
		return "", "", err
	}
	return expand(set, sets)
}

// expandGranted returns what the scope of a living session means now. If that is not known, it
// is what it meant before: a session does not end, nor lose what it may, for a fault of the
// network. Errors are the store's.
func (s *Service) expandGranted(ctx context.Context, g *session.Grant) (effective, versions string, err error) {
	set := scope.Parse(g.Granted)
	includes := set.Includes()
	if len(includes) == 0 {
		return g.Effective, g.Sets, nil
	}
	sets, err := s.Schemas.Granted(ctx, includes)
	if err != nil {
		return "", "", err
	}
	if len(sets.Sets) < len(includes) {
		return g.Effective, g.Sets, nil
	}
	effective, versions, err = expand(set, sets)
	if errors.Is(err, scope.ErrLimit) {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "a grant's permission sets grew too large, their last version goes on",
			slog.String("client_id", g.ClientID), slog.String("cause", err.Error()))
		return g.Effective, g.Sets, nil
	}
	return effective, versions, err
}

func expand(set scope.Set, sets schema.Sets) (effective, versions string, err error) {
	expanded, err := set.Expand(sets.Sets)
	if err != nil {
		return "", "", err
	}
	var list []string
	for _, nsid := range set.Includes() {
		if version, ok := sets.Versions[nsid]; ok {
			list = append(list, nsid.String()+" "+version)
		}
	}
	slices.Sort(list)
	return expanded.String(), strings.Join(list, "\n"), nil
}
