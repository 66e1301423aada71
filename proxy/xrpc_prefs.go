package proxy

import (
	"net/http"

	"nestbox/xrpc"
)

// Preferences passes getPreferences and putPreferences on if the client names a service
// that is no AppView. Whatever AppView it names, preferences are kept here.
func (s *Service) Preferences(r *http.Request) (xrpc.Handler, error) {
	header := proxyHeader(r.Header)
	if header == "" {
		return nil, nil //nolint:nilnil // neither another way nor an error
	}
	_, service, err := parseProxyHeader(header)
	switch {
	case err != nil:
		return nil, wireError(http.Header{}, err)
	case service == idAppView:
		return nil, nil //nolint:nilnil // neither another way nor an error
	case s.Callers.IsService(r):
		return nil, xrpc.InvalidRequest("a moderation service gets preferences from here alone")
	default:
		return s.Call, nil
	}
}
