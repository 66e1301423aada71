package server

import (
	"context"
	"fmt"
)

// lookAtPasskeys looks for passkeys that a change of the host name has made useless.
func (s *Server) lookAtPasskeys(ctx context.Context) (string, error) {
	host := s.signIns.WebAuthn.Host()
	n, err := s.stores.Factors.PasskeysElsewhere(ctx, host)
	if err != nil {
		return "", fmt.Errorf("they cannot be read: %w", err)
	}
	if n > 0 {
		return "", fmt.Errorf("%d belong to another host name than %s, so no browser offers them: bring back the old PDS_HOSTNAME, "+
			"or ask their owners to make new ones", n, host)
	}
	return "all belong to " + host, nil
}
