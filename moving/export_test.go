package moving

import "context"

// Look is lookAtPaused.
func (s *Service) Look(ctx context.Context) { s.lookAtPaused(ctx) }
