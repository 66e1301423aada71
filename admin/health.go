package admin

import "context"

// Health is whether the server works, and whether it should get requests.
type Health struct {
	// Version is that of the running server.
	Version string `json:"version"`
	// Live: its process works. Ready: it takes writes, and does not stop.
	Live  bool `json:"live"`
	Ready bool `json:"ready"`
	// Problem is why it is not live, or not ready; empty if it is both.
	Problem string `json:"problem,omitzero"`
}

// health answers CmdHealth.
func (s *Service) health(context.Context, Done) (Health, error) { return s.Health(), nil }
