package faults

import "time"

// Return ends the time for which a server that restarts is away.
func (f *Faults) Return() {
	f.connections.mu.Lock()
	defer f.connections.mu.Unlock()
	f.connections.away = time.Time{}
}
