package proxy

import (
	"net/http"

	"nestbox/xrpc"
)

// GetFeed is app.bsky.feed.getFeed: the token of the call is for the feed's generator,
// which the AppView asks.
func (s *Service) GetFeed(w http.ResponseWriter, r *http.Request) error {
	c, err := s.begin(w, r)
	if err != nil {
		return wireError(w.Header(), err)
	}
	feed := r.URL.Query()["feed"]
	if len(feed) != 1 {
		return xrpc.InvalidRequest(`Error: Params must have the property "feed"`)
	}
	if c.audience, err = s.generator(r.Context(), c.to, feed[0]); err != nil {
		return wireError(w.Header(), err)
	}
	c.lxm = getFeedSkeleton
	return s.relay(w, r, c)
}
