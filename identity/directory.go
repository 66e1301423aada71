package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/request"
)

// maxAnswer bounds, in bytes, what is read from a PLC directory.
const maxAnswer = 256 << 10

// Errors of Directory.
var (
	// ErrNotRegistered: the directory does not know the DID, or knows it as
	// ended.
	ErrNotRegistered = errors.New("DID is not registered")
	// ErrDeactivated is ErrNotRegistered of a DID that was ended by its owner.
	ErrDeactivated = fmt.Errorf("%w: it is deactivated", ErrNotRegistered)
	// ErrRefused: the directory answered that it does not take the operation.
	ErrRefused = errors.New("the PLC directory refused the operation")
	// ErrUnreached: the directory has not looked at the operation, as a rule since
	// nothing was sent.
	ErrUnreached = errors.New("the PLC directory cannot be reached")
	// ErrThrottled is ErrUnreached of a directory that wants fewer requests.
	ErrThrottled = fmt.Errorf("%w: too many requests", ErrUnreached)
)

// askTimeout bounds a question to the directory, which several callers may share.
const askTimeout = 15 * time.Second

// Directory is the PLC directory that the operator chose. It should be closed.
type Directory struct {
	URL    string
	Client *http.Client
	// Limits counts the requests that a client network causes; nil counts nothing.
	Limits *ratelimit.Limiter

	once  sync.Once
	asked *flights[didplc.OpEnum]
}

// flights returns the questions for newest operations, whose room submissions share.
func (d *Directory) flights() *flights[didplc.OpEnum] {
	d.once.Do(func() { d.asked = newFlights(newWork(d.Limits), d.askLast) })
	return d.asked
}

// Close ends the questions that are on their way and waits for them.
func (d *Directory) Close() { d.flights().work.close() }

// Submit sends a signed operation. ErrRefused and ErrUnreached are certain; on
// any other error the directory may or may not have taken it.
func (d *Directory) Submit(ctx context.Context, did syntax.DID, op *didplc.RegularOp) error {
	leave, err := d.flights().work.enter(forOwner, request.ClientOf(ctx))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	defer leave()
	body, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+"/"+did.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	req.Header.Set("Content-Type", "application/json")
	// A redirect would turn the operation into a GET, and whatever answers that
	// with 200 has not taken it.
	client := *d.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return fmt.Errorf("%w: %w", ErrUnreached, err)
		}
		return fmt.Errorf("submit operation: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // only quoted
	said := fmt.Sprintf("status %d: %s", resp.StatusCode, clip(string(answer), 300))
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", ErrThrottled, said)
	case resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusRequestTimeout:
		// It failed somewhere, perhaps after it was stored: a gateway that gave
		// up waiting says so too.
		return fmt.Errorf("submit operation: %s", said)
	default:
		return fmt.Errorf("%w: %s", ErrRefused, said)
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}

// Document returns the DID document, JSON, as the directory gives it. Its caller
// bounds how often.
func (d *Directory) Document(ctx context.Context, did syntax.DID) ([]byte, error) {
	raw, err := d.get(ctx, "/"+did.String())
	if err != nil {
		return nil, err
	}
	var doc struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.ID != did.String() {
		return nil, fmt.Errorf("the PLC directory's answer is no document of %s", did)
	}
	return raw, nil
}

// Last returns the newest operation of a DID, as of a time after the call: ErrBusy,
// ErrNotRegistered. The content of the operation is not checked, since the directory
// has accepted it.
func (d *Directory) Last(ctx context.Context, did syntax.DID) (didplc.OpEnum, error) {
	return d.flights().ask(ctx, did.String(), forOwner, nil)
}

func (d *Directory) askLast(ctx context.Context, did string) (didplc.OpEnum, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := d.get(ctx, "/"+did+"/log/last")
	if err != nil {
		return didplc.OpEnum{}, err
	}
	return plc.Parse(raw)
}

// Log returns the whole log of a DID, with the operations that were undone, as the
// directory writes it (JSON): ErrNotRegistered.
func (d *Directory) Log(ctx context.Context, did syntax.DID) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := d.get(ctx, "/"+did.String()+"/log/audit")
	if err == nil && !json.Valid(raw) {
		err = fmt.Errorf("the PLC directory's log of %s is cut or not JSON", did)
	}
	return raw, err
}

func (d *Directory) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the PLC directory: %w", err)
	}
	resp, err := d.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the PLC directory: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, ErrNotRegistered
	case http.StatusGone:
		return nil, ErrDeactivated
	default:
		return nil, fmt.Errorf("ask the PLC directory: status %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the PLC directory: %w", err)
	}
	return raw, nil
}
