package server

import (
	"os"

	"nestbox/internal/system"
	"nestbox/load"
)

// gauges returns what the load of the server is right now. What the system does not tell
// is 0.
func (s *Server) gauges() (g load.Gauges) {
	if s.firehose != nil {
		g.Subscribers = s.firehose.Members()
	}
	g.Memory, _ = system.Resident(os.Getpid()) // 0 then
	g.CPU, _ = system.CPUTime()
	return g
}
