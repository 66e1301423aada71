package admin

import (
	"context"
	"errors"
	"sync"

	"nestbox/firehose"
)

// RelayLine is a relay beside this server: what it knows, and what there is.
type RelayLine struct {
	Relay string `json:"relay"`
	// AskedAt and AskedError are of the last request to be crawled; empty if there was none
	// since the start.
	AskedAt    string `json:"askedAt,omitzero"`
	AskedError string `json:"askedError,omitzero"`
	// Status, Seq and Accounts are what the relay says; Unseen: it does not know this server.
	Status   string `json:"status,omitzero"`
	Seq      int64  `json:"seq,omitzero"`
	Accounts int64  `json:"accounts,omitzero"`
	Unseen   bool   `json:"unseen,omitzero"`
	// Error is why it could not be asked.
	Error string `json:"error,omitzero"`
}

// RelayStatus is every relay, and the same of this server.
type RelayStatus struct {
	Seq      int64 `json:"seq"`
	Accounts int64 `json:"accounts"`
	// Limit is PDS_RELAY_ACCOUNT_LIMIT, 0 for none.
	Limit  int64       `json:"limit"`
	Relays []RelayLine `json:"relays"`
}

// RelayArgs name a relay by its URL in PDS_CRAWLERS.
type RelayArgs struct {
	Relay string `json:"relay"`
}

// relayStatus asks every relay at once.
func (s *Service) relayStatus(ctx context.Context, _ Done) (RelayStatus, error) {
	out, err := s.Relays(ctx)
	if err != nil {
		return out, err
	}
	var asking sync.WaitGroup
	for i := range out.Relays {
		line := &out.Relays[i]
		asking.Go(func() {
			st, err := s.Crawler.HostStatus(ctx, line.Relay)
			switch {
			case errors.Is(err, firehose.ErrUnseen):
				line.Unseen = true
			case err != nil:
				line.Error = err.Error()
			default:
				line.Status, line.Seq, line.Accounts = st.Status, st.Seq, st.Accounts
			}
		})
	}
	asking.Wait()
	return out, nil
}

// Relays returns what is known of the relays without asking them.
func (s *Service) Relays(ctx context.Context) (RelayStatus, error) {
	st, err := s.Firehose.Status(ctx)
	if err != nil {
		return RelayStatus{}, err
	}
	n, err := s.Hosting.Store.Hosted(ctx)
	if err != nil {
		return RelayStatus{}, err
	}
	out := RelayStatus{Seq: st.Last, Accounts: n, Limit: s.Hosting.RelayLimit, Relays: []RelayLine{}}
	for _, host := range s.Crawler.Hosts() {
		last := s.Crawler.Last(host)
		out.Relays = append(out.Relays, RelayLine{Relay: host, AskedAt: datetime(last.At), AskedError: last.Error})
	}
	return out, nil
}

// askRelay asks one relay to crawl this server.
func (s *Service) askRelay(ctx context.Context, a RelayArgs) (Done, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionCrawl, "", a.Relay, "")); err != nil {
		return Done{}, err
	}
	return Done{}, s.Crawler.Ask(ctx, a.Relay)
}
