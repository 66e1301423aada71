package server

import (
	"maps"
	"slices"

	"nestbox/oauth/dpop"
)

// Routes returns the XRPC methods that the server answers.
func (s *Server) Routes() []string { return slices.Sorted(maps.Keys(s.methods())) }

// Proofs returns the check of DPoP proofs.
func (s *Server) Proofs() *dpop.Checker { return s.dpop }
