package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"nestbox/internal/gate"
	"nestbox/request"
)

// How many calls are under way at once, and how long others wait for a place. Of a host
// that clients name one account has callsToNamed places, and all together have more: it
// could keep the others from their chats otherwise.
const (
	callsOfAccount  = 64
	callsToNamed    = 32
	callsToNamedAll = 4 * callsToNamed
	callsToDefault  = 512
	waitForPlace    = 2 * time.Second
	// Calls of nobody, for public records.
	callsOfNobody  = 64
	callsOfNetwork = 8
)

// room are the places of calls that are under way.
type room struct {
	accounts, origins gate.Places[string]
}

// enter takes a place for a call of an account to a target. Without an account it counts
// for the client's network. leave gives it back.
func (r *room) enter(ctx context.Context, did string, to Target) (leave func(), err error) {
	within, cancel := context.WithTimeout(ctx, waitForPlace)
	defer cancel()
	callers := []gate.Share[string]{{Key: did, Most: callsOfAccount, Waiting: callsOfAccount}}
	if did == "" {
		network := request.ClientOf(ctx).Network().Widest()
		callers = []gate.Share[string]{
			{Key: "network " + network, Most: callsOfNetwork, Waiting: callsOfNetwork},
			{Key: "", Most: callsOfNobody, Waiting: callsOfNobody},
		}
	}
	own, err := r.accounts.Take(within, gate.Room{}, callers...)
	if err != nil {
		return nil, crowded(ctx, err, http.StatusTooManyRequests, nameRateLimit, "Rate Limit Exceeded")
	}
	shares := []gate.Share[string]{{Key: to.key(), Most: callsToDefault, Waiting: callsToDefault}}
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
