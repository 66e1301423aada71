package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// How often identities are looked at: enough for 280,000 accounts a day.
const (
	checkAge   = 24 * time.Hour
	checkEvery = 5 * time.Minute
	checkBatch = 1000
	// giveUp is after how many failures in a row the PLC directory is left alone.
	giveUp = 10
)

// Checker compares, in the background, what the network says of our accounts
// with what we think.
type Checker struct {
	Store    Store
	Resolver *Resolver
	Now      func() time.Time
	// Doubt returns an error while Now cannot be trusted: then nothing is checked. If
	// it is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger
}

// Run checks each account once a day until ctx ends.
func (c *Checker) Run(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := c.Round(ctx); err != nil && ctx.Err() == nil {
			c.Log.LogAttrs(ctx, slog.LevelWarn, "identity check failed", slog.String("cause", err.Error()))
		}
	}
}

// Round checks the accounts that are due, and returns the first failure. An
// account that cannot be checked while others can is asked for again a day
// later, so that it is in nobody's way; so is each did:web, whose host is its own. A
// PLC directory that answers nothing is left alone: what could not be asked is due
// again.
func (c *Checker) Round(ctx context.Context) error {
	now := c.Now()
	if c.Doubt != nil && c.Doubt() != nil {
		return nil //nolint:nilerr // what is written now would count as the last write of a clock that was right
	}
	due, err := c.Store.Due(ctx, now.Add(-checkAge), checkBatch)
	if err != nil {
		return err
	}
	var first error
	var failed []Subject
	for _, s := range due {
		registered := s.DID.Method() == "plc"
		if registered && len(failed) == giveUp {
			continue
		}
		err := c.Check(ctx, s)
		if ctx.Err() != nil {
			return err
		}
		if err != nil && first == nil {
			first = fmt.Errorf("check %s: %w", s.DID, err)
		}
		var late []Subject
		switch {
		case registered && err != nil:
			failed = append(failed, s)
		case registered:
			late, failed = failed, nil
		case err != nil:
			late = []Subject{s}
		}
		for _, s := range late {
			if err := c.Store.SaveCheck(ctx, s, s.Document, s.HandleInvalid, c.Now()); err != nil {
				return err
			}
		}
	}
	return first
}

// Check asks for one account's DID document and stores it, with whether its
// handle is still claimed there and leads back to the DID. Where nobody says where
// it leads, or the account is hidden, what was found before holds.
func (c *Checker) Check(ctx context.Context, s Subject) error {
	d, err := c.Resolver.Fresh(ctx, s.DID)
	switch {
	case errors.Is(err, ErrNotRegistered):
		return c.Store.SaveCheck(ctx, s, s.Document, true, c.Now())
	case err != nil:
		return err
	}
	invalid := d.Handle() != s.Handle.Normalize()
	switch {
	case invalid:
	case s.Hidden:
		invalid = s.HandleInvalid
	default:
		switch back, err := c.Resolver.ProvenHandle(ctx, s.Handle); {
		case err == nil:
			invalid = back != s.DID
		case errors.Is(err, ErrHandleNotFound), errors.Is(err, ErrHandleConflict):
			invalid = true
		case ctx.Err() != nil:
			return err
		default:
			invalid = s.HandleInvalid
		}
	}
	document, err := d.kept()
	if err != nil {
		return err
	}
	return c.Store.SaveCheck(ctx, s, document, invalid, c.Now())
}

// PDSEndpoint returns the URL of the host that a DID document names, or "".
func PDSEndpoint(doc []byte) string {
	var d struct {
		Service []struct {
			ID              string `json:"id"`
			ServiceEndpoint string `json:"serviceEndpoint"`
		} `json:"service"`
	}
	if json.Unmarshal(doc, &d) != nil {
		return ""
	}
	for _, s := range d.Service {
		if strings.HasSuffix(s.ID, "#atproto_pds") {
			return s.ServiceEndpoint
		}
	}
	return ""
}
