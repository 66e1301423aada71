package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"nestbox/firehose"
)

// JumpArgs select where the numbers of events go on: above To, or above what a
// relay, named by its URL, has seen.
type JumpArgs struct {
	To    int64  `json:"to"`
	Relay string `json:"relay"`
}

// relayMargin is how far above a relay's number the numbers go on: the relay
// may have seen more than it reports.
const relayMargin = 100_000

// Jumped is the result of a jump: the next event's number is Last+1.
type Jumped struct {
	Last int64 `json:"last"`
}

// FirehoseStatus describes the event log and its subscribers.
type FirehoseStatus struct {
	Oldest     int64  `json:"oldest"`
	OldestAt   string `json:"oldestAt,omitempty"`
	Last       int64  `json:"last"`
	Bytes      int64  `json:"bytes"`
	Announcing bool   `json:"announcing"`
	// LogBytes is the size of the database's write-ahead log.
	LogBytes    int64            `json:"writeAheadLogBytes"`
	Subscribers []SubscriberLine `json:"subscribers"`
	// Ended are the latest that the server ended since its start.
	Ended []EndedLine `json:"ended"`
}

// EndedLine is a connection to the event stream that the server ended.
type EndedLine struct {
	Client    string `json:"client"`
	UserAgent string `json:"userAgent"`
	At        string `json:"at"`
	Why       string `json:"why"`
}

// SubscriberLine is one connection to the event stream.
type SubscriberLine struct {
	ID        int64  `json:"id"`
	Client    string `json:"client"`
	UserAgent string `json:"userAgent"`
	Since     string `json:"since"`
	Sent      int64  `json:"sent"`
	// SentAt is when the event of that number was made; empty if none was sent yet.
	SentAt string `json:"sentAt,omitzero"`
}

func (s *Service) firehoseStatus(ctx context.Context, _ Done) (FirehoseStatus, error) {
	st, err := s.Firehose.Status(ctx)
	if err != nil {
		return FirehoseStatus{}, err
	}
	out := FirehoseStatus{
		Oldest: st.Oldest, Last: st.Last, Bytes: st.Bytes, Announcing: st.Announcing, LogBytes: s.LogSize(),
		Subscribers: []SubscriberLine{}, Ended: []EndedLine{},
	}
	if !st.OldestAt.IsZero() {
		out.OldestAt = datetime(st.OldestAt)
	}
	for _, m := range st.Subscribers {
		line := SubscriberLine{
			ID: m.ID, Client: m.Client, UserAgent: m.UserAgent, Since: datetime(m.Since), Sent: m.Sent,
			SentAt: datetime(m.SentAt),
		}
		out.Subscribers = append(out.Subscribers, line)
	}
	for _, e := range st.Ended {
		out.Ended = append(out.Ended, EndedLine{e.Client, e.UserAgent, datetime(e.At), e.Why})
	}
	return out, nil
}

func (s *Service) firehoseJump(ctx context.Context, a JumpArgs) (Jumped, error) {
	switch {
	case a.Relay != "" && a.To != 0:
		return Jumped{}, errors.New("name a number or a relay, not both")
	case a.Relay != "":
		seen, err := s.Crawler.LastSeen(ctx, a.Relay)
		if err != nil {
			return Jumped{}, fmt.Errorf("%s: %w", a.Relay, err)
		}
		if seen > firehose.MaxJump-relayMargin {
			return Jumped{}, fmt.Errorf("%s: %w", a.Relay, firehose.ErrTooHigh)
		}
		st, err := s.Firehose.Status(ctx)
		if err != nil {
			return Jumped{}, err
		}
		a.To = max(seen+relayMargin, st.Last)
	case a.To <= 0:
		return Jumped{}, errors.New("name the number to go on above")
	}
	if err := s.Store.Note(ctx, s.action(ctx, ActionJump, "", "", fmt.Sprintf("to %d", a.To))); err != nil {
		return Jumped{}, err
	}
	return Jumped{Last: a.To}, s.Firehose.Jump(ctx, a.To)
}

// DisconnectArgs name a subscriber by its ID in FirehoseStatus.
type DisconnectArgs struct {
	ID int64 `json:"id"`
}

// ErrNoSubscriber: nobody with that ID is connected.
var ErrNoSubscriber = errors.New("no subscriber has this number any more")

func (s *Service) disconnect(ctx context.Context, a DisconnectArgs) (Done, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionDisconnected, "", strconv.FormatInt(a.ID, 10), "")); err != nil {
		return Done{}, err
	}
	if !s.Firehose.Disconnect(a.ID) {
		return Done{}, ErrNoSubscriber
	}
	return Done{}, nil
}
