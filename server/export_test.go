package server

import (
	"maps"
	"slices"
)

// Routes returns the XRPC methods that the server answers.
func (s *Server) Routes() []string { return slices.Sorted(maps.Keys(s.methods())) }
