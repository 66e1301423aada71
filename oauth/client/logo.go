package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"nestbox/internal/gate"
	"nestbox/internal/safehttp"
)

// Logo is the picture of a trusted client. Its Type is what the bytes are, whatever the
// client's host says: one of logoTypes.
type Logo struct {
	Type string
	Body []byte
}

// logoTypes are those of pictures that run nothing: an SVG is a document.
var logoTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

const (
	maxLogo     = 256 << 10 // bytes
	logoLife    = 24 * time.Hour
	logoFailure = 10 * time.Minute
)

// logos are the pictures that are known, of trusted clients alone: these are few.
type logos struct {
	mu      sync.Mutex
	known   map[string]*keptLogo // by client_id
	flights gate.Flights[string, *keptLogo]
}

// keptLogo is what came of fetching a logo; it is not changed. If body is nil, nothing did.
type keptLogo struct {
	Logo

	uri   string
	until time.Time
}

// Logo returns the picture that a trusted client's document names. It is fetched as
// documents are, kept for a day, and shown while it cannot be fetched again. ErrNotFound: the
// client is not trusted, has none, or none that can be shown. Errors besides: those of Load.
func (s *Service) Logo(ctx context.Context, id string) (Logo, error) {
	if !slices.Contains(s.Trusted, id) {
		return Logo{}, ErrNotFound
	}
	c, err := s.Load(ctx, id, ForSession)
	if err != nil {
		return Logo{}, err
	}
	if c.Logo == "" {
		return Logo{}, ErrNotFound
	}
	k := s.logos.of(id)
	does := func(k *keptLogo) bool { return k != nil && k.uri == c.Logo && s.Now().Before(k.until) }
	if !does(k) {
		on, err := s.logos.flights.Depart(ctx, id, s.fare(ctx), func() *gate.Flight[*keptLogo] {
			if k := s.logos.of(id); does(k) {
				return gate.Landed(k, nil)
			}
			return nil
		}, func() (*keptLogo, error) { return s.fetchLogo(c), nil })
		if err != nil {
			return Logo{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if k, err = on.Wait(ctx); err != nil {
			return Logo{}, err
		}
	}
	if k.Body == nil {
		return Logo{}, ErrNotFound
	}
	return k.Logo, nil
}

func (l *logos) of(id string) *keptLogo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[id]
}

func (l *logos) keep(id string, k *keptLogo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]*keptLogo{}
	}
	l.known[id] = k
}

// fetchLogo fetches a client's logo and keeps it. Where that fails, the last one goes on.
func (s *Service) fetchLogo(c *Client) *keptLogo {
	logo, err := getLogo(s.ctx, s.HTTP, c.Logo)
	k := &keptLogo{Logo: logo, uri: c.Logo, until: s.Now().Add(logoLife)}
	if err != nil {
		s.Log.LogAttrs(s.ctx, slog.LevelInfo, "logo of an OAuth client not obtained", slog.String("client_id", c.ID),
			slog.String("cause", Printable(err.Error())))
		k.until = s.Now().Add(logoFailure)
		if last := s.logos.of(c.ID); last != nil && last.uri == c.Logo {
			k.Logo = last.Logo
		}
	}
	s.logos.keep(c.ID, k)
	return k
}

func getLogo(ctx context.Context, h *http.Client, uri string) (Logo, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return Logo{}, err
	}
	req.Header.Set("Accept", "image/png, image/webp, image/jpeg, image/gif")
	req.Header.Set("User-Agent", "nestbox")
	resp, err := h.Do(req)
	if err != nil {
		return Logo{}, errors.New(cmp.Or(safehttp.Reason(err), "connection failed"))
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return Logo{}, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := safehttp.ReadAll(resp, maxLogo)
	if err != nil {
		return Logo{}, err
	}
	kind := http.DetectContentType(body)
	if !slices.Contains(logoTypes, kind) {
		return Logo{}, fmt.Errorf("it is %s, and no picture in PNG, JPEG, GIF or WebP", kind)
	}
	return Logo{Type: kind, Body: body}, nil
}

// Known returns a client as far as it is known without asking its host: nil if it is not.
func (s *Service) Known(ctx context.Context, id string) (*Client, error) {
	if query, ok := isLoopbackID(id); ok {
		return loopbackClient(id, query)
	}
	u, err := parseID(id, s.Dev)
	if err != nil {
		return nil, err
	}
	k, err := s.look(ctx, id, u)
	if err != nil {
		return nil, err
	}
	return k.client, nil
}
