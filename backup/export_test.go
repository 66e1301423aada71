package backup

// SetMost bounds what waits, in bytes.
func (s *Segments) SetMost(n int64) { s.most = n }
