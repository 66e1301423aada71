package firehose

import (
	"context"
	"errors"
	"net/http"

	"github.com/gorilla/websocket"

	"nestbox/auth"
	"nestbox/request"
	"nestbox/xrpc"
)

// SubscribeReposParams are the parameters of com.atproto.sync.subscribeRepos.
type SubscribeReposParams struct {
	Cursor *int64 `json:"cursor,omitzero"`
}

// Subscribe is com.atproto.sync.subscribeRepos
// (https://atproto.com/specs/event-stream). It returns when the stream ends.
func (h *Hub) Subscribe(ctx context.Context, _ auth.Anyone, p SubscribeReposParams, w http.ResponseWriter, r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header()["Upgrade"] = []string{"websocket"}
		return &xrpc.Error{
			Status: http.StatusUpgradeRequired, Name: xrpc.NameInvalidRequest,
			Message: "This is an event stream: connect with a WebSocket",
		}
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	m := &member{client: request.ClientOf(ctx), since: h.opts.Now().UTC(), end: end}
	if err := h.enter(m); err != nil {
		return wireError(err)
	}
	defer h.leave(m)
	request.Remember(ctx) // the number of these is bounded, and each is followed to its end
	if err := h.connect(ctx, m, w, r); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		h.listen(m)
		end(errGone)
	}()
	h.finish(ctx, m, h.stream(ctx, m, p.Cursor), gone)
	return nil
}

// wireError returns an error of enter as the client sees it.
func wireError(err error) error {
	e := xrpc.Unavailable(err) // a 429 if the network has too many
	switch {
	case errors.Is(err, errFull):
		e.Message, e.RetryAfter = "There are too many subscribers", retryFull
	case e.Status == http.StatusTooManyRequests:
		e.Message = "There are too many subscribers from your network"
	}
	return e
}

// connect upgrades the connection. If it returns an error, nothing was answered yet.
func (h *Hub) connect(ctx context.Context, m *member, w http.ResponseWriter, r *http.Request) error {
	var refused error
	up := websocket.Upgrader{
		ReadBufferSize: 512, WriteBufferSize: 512,
		// The stream is public, and the same for every reader.
		CheckOrigin: func(*http.Request) bool { return true },
		Error: func(_ http.ResponseWriter, _ *http.Request, _ int, reason error) {
			refused = xrpc.InvalidRequest("%s", reason.Error())
		},
	}
	hj := &hijacker{ResponseWriter: w, patience: h.opts.Patience, grace: h.opts.Grace, tooSlow: func() { h.logSlow(ctx, m) }}
	conn, err := up.Upgrade(hj, r, http.Header{"Access-Control-Allow-Origin": {"*"}})
	if refused != nil {
		return refused
	}
	if err != nil {
		return err // the client has gone; nobody reads this
	}
	h.mu.Lock()
	m.conn, m.raw = conn, hj.conn
	h.mu.Unlock()
	return nil
}
