package proxy

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
	"nestbox/oauth/scope"
	"nestbox/xrpc"
)

// PushInput is what registerPush and unregisterPush need; all that they were sent is
// passed on.
type PushInput struct {
	ServiceDID string `json:"serviceDid"`
	Token      string `json:"token"`
	Platform   string `json:"platform"`
	AppID      string `json:"appId"`
}

// notificationService is the type of the service that sends push notifications.
const notificationService = "BskyNotificationService"

// Push is app.bsky.notification.registerPush and unregisterPush. The body names the
// service, not the header atproto-proxy.
func (s *Service) Push(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	commonHeaders(w.Header())
	calling, err := s.Callers.Calling(ctx, r)
	if err != nil {
		return err
	}
	in, body, err := xrpc.Body[PushInput](w, r, xrpc.DefaultMaxBody)
	if err != nil {
		return err
	}
	caller, err := calling.For(scope.NeedRPC(xrpc.NSID(r), in.ServiceDID+"#"+idNotify))
	if err != nil {
		return err
	}
	to, err := s.pushService(ctx, in.ServiceDID)
	if err != nil {
		return wireError(w.Header(), err)
	}
	by, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return wireError(w.Header(), err)
	}
	header, err := upHeaders(r, s.userAgent)
	if err != nil {
		return wireError(w.Header(), err)
	}
	if err := xrpc.Wait(ctx, w, answerTime); err != nil {
		return err
	}
	delete(header, "Content-Encoding") // it was decoded
	c := &call{
		by: by, holder: caller.Holder(), to: to, method: r.Method, nsid: xrpc.NSID(r), header: header,
		sent: bytes.NewReader(body), length: int64(len(body)),
	}
	if _, err = s.ask(ctx, c, maxRecordAnswer); err != nil {
		return wireError(w.Header(), err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// pushService returns the service that sends push notifications for a DID.
func (s *Service) pushService(ctx context.Context, did string) (Target, error) {
	if s.AppView.URL != "" && did == s.AppView.DID {
		return Target{DID: did, Service: idNotify, URL: s.AppView.URL}, nil
	}
	if !isServiceDID(did) {
		return Target{}, invalid("could not resolve did document: " + clip(did))
	}
	document, err := s.document(ctx, syntax.DID(did))
	switch {
	case errors.Is(err, identity.ErrMalformed):
		return Target{}, invalid("invalid did document: " + did)
	case errors.Is(err, identity.ErrBusy), ctx.Err() != nil:
		return Target{}, err
	case err != nil:
		return Target{}, invalid("could not resolve did document: " + did)
	}
	origin, ok := serviceOrigin(document.ServiceOf(idNotify, notificationService))
	if !ok || origin == s.origin {
		return Target{}, invalid("invalid notification service details in did document: " + did)
	}
	return Target{DID: did, Service: idNotify, URL: origin, Named: true}, nil
}

// clip bounds what an error repeats of the client's words.
func clip(text string) string {
	const most = 128
	if len(text) > most {
		return text[:most]
	}
	return text
}
