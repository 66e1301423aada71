package repo

// Queued returns how many calls wait to be taken into a chain.
func (s *Service) Queued(accountID int64) int {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return len(s.calls.of[accountID])
}
