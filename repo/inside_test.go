package repo

// Queued returns how many calls wait to be taken into a chain.
func (s *Service) Queued(accountID int64) int {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return len(s.calls.of[accountID])
}

// ForgetRevs empties the cache of revisions, as other accounts in their place do.
func (s *Service) ForgetRevs() { s.revs.cache().InvalidateAll() }
