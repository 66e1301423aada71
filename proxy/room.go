package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"nestbox/auth"
	"nestbox/internal/gate"
	"nestbox/request"
)

// How many calls are under way at once, and how long others wait for a place. Of a host
// that clients name one account has callsToNamed places, and all together have more: it
// could keep the others from their chats otherwise. For the same reason an app has half of
// its account's places, and a client network a quarter of those at a service of ours.
const (
	callsOfAccount  = 64
	callsOfApp      = callsOfAccount / 2
	callsToNamed    = 32
	callsToNamedAll = 4 * callsToNamed
	callsToDefault  = 512
	callsFrom       = callsToDefault / 4
	waitForPlace    = 2 * time.Second
	// Calls of nobody, for public records.
	callsOfNobody  = 64
	callsOfNetwork = 8
)

// room are the places of calls that are under way.
type room struct {
	accounts, origins gate.Places[string]
}

// enter takes a place for a call of a holder to a target. Without one it counts for the
// client's network. leave gives it back.
func (r *room) enter(ctx context.Context, by auth.Holder, to Target) (leave func(), err error) {
	within, cancel := context.WithTimeout(ctx, waitForPlace)
	defer cancel()
	did, client := by.DID.String(), request.ClientOf(ctx)
	callers := []gate.Share[string]{{Key: did, Most: callsOfAccount, Waiting: callsOfAccount}}
	switch {
	case did == "":
		callers = []gate.Share[string]{
			{Key: "network " + client.Network().Widest(), Most: callsOfNetwork, Waiting: callsOfNetwork},
			{Key: "", Most: callsOfNobody, Waiting: callsOfNobody},
		}
	case by.Via != "":
		callers = append(callers, gate.Share[string]{Key: by.Key(), Most: callsOfApp, Waiting: callsOfApp})
	}
	own, err := r.accounts.Take(within, gate.Room{}, callers...)
	if err != nil {
		return nil, crowded(ctx, err, http.StatusTooManyRequests, nameRateLimit, "Rate Limit Exceeded")
	}
	shares := append(client.Shares(gate.Share[string]{Most: callsFrom, Waiting: callsFrom}, callsToDefault),
		gate.Share[string]{Key: to.key(), Most: callsToDefault, Waiting: callsToDefault})
	if to.Named {
		shares = []gate.Share[string]{
			{Key: to.key(), Most: callsToNamedAll, Waiting: callsToNamedAll},
			{Key: did + " " + to.key(), Most: callsToNamed, Waiting: callsToNamed},
		}
	}
	place, err := r.origins.Take(within, gate.Room{}, shares...)
	if err != nil {
		own.Leave()
		return nil, crowded(ctx, err, http.StatusBadGateway, nameUpstreamFailure, messageFailure+": too many calls")
	}
	return func() {
		place.Leave()
		own.Leave()
	}, nil
}

// crowded returns the refusal of a call that found no place in time.
func crowded(ctx context.Context, err error, status int, name, message string) error {
	if ctx.Err() != nil {
		return ctx.Err() // the client has left
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, gate.ErrFull) || errors.Is(err, gate.ErrShare) {
		return &refusalError{status: status, name: name, message: message, retryAfter: waitForPlace, cause: err}
	}
	return err
}
