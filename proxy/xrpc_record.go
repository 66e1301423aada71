package proxy

import (
	"errors"
	"net/http"

	"nestbox/xrpc"
)

// GetRecord returns a handler of com.atproto.repo.getRecord for a repository that is not
// here, which this server has refused: the AppView may have it. The record is public, so
// the call carries no token. A stranger cannot choose where it goes.
func (s *Service) GetRecord(refused error) xrpc.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, header := r.Context(), proxyHeader(r.Header)
		if header != "" {
			_, err := s.Callers.Calling(ctx, r)
			if e, ok := errors.AsType[*xrpc.Error](err); ok && e.Status >= http.StatusInternalServerError {
				return err
			}
			if err != nil {
				header = ""
			}
		}
		if header == "" && s.AppView.URL == "" {
			return refused
		}
		to, err := s.target(ctx, header, getRecord)
		if err != nil {
			return wireError(w.Header(), err)
		}
		commonHeaders(w.Header())
		return s.relay(w, r, &call{to: to, method: r.Method, nsid: getRecord, query: r.URL.RawQuery})
	}
}
