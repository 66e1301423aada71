package moving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"nestbox/account"
	"nestbox/plc"
)

// ErrSource: the text is no address of another server.
var ErrSource = errors.New("not the address of another server")

// Source returns the URL of a server that a person typed. ErrSource. Whether it may be asked
// is for package safehttp.
func (s *Service) Source(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || len(text) > 253 {
		return "", ErrSource
	}
	source := u.Scheme + "://" + u.Host
	if source == s.URL {
		return "", ErrSource
	}
	return source, nil
}

// Former returns the URL of the server that an account comes from, as its identity says: the
// last one that is not this one; empty if there is none.
func (s *Service) Former(ctx context.Context, a *account.Account) (string, error) {
	var named []string
	if a.DID.Method() == "plc" {
		log, err := s.PLCLog(ctx, a.DID)
		if err != nil {
			return "", fmt.Errorf("the log of %s: %w", a.DID, err)
		}
		if named, err = serversOf(log); err != nil {
			return "", err
		}
	} else {
		pds, err := s.PDS(ctx, a.DID)
		if err != nil {
			return "", err
		}
		named = []string{pds}
	}
	for _, name := range slices.Backward(named) {
		if source, err := s.Source(name); err == nil {
			return source, nil
		}
	}
	return "", nil
}

// serversOf returns the servers that the operations of a log name, the newest last. Those
// that were undone do not count.
func serversOf(log []byte) (all []string, err error) {
	var entries []struct {
		Operation json.RawMessage `json:"operation"`
		Nullified bool            `json:"nullified"`
	}
	if err := json.Unmarshal(log, &entries); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	for _, e := range entries {
		if e.Nullified {
			continue
		}
		op, err := plc.Parse(e.Operation)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		if d, ok := plc.DataOf(op); ok && d.PDS != "" {
			all = append(all, d.PDS)
		}
	}
	return all, nil
}
