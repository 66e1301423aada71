package moving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nestbox/blob"
	"nestbox/internal/pause"
	"nestbox/internal/safehttp"
	"nestbox/repo"
	"nestbox/request"
)

const (
	// stalledAfter is how long another server may send nothing.
	stalledAfter = time.Minute
	// maxFault bounds, in bytes, an answer that is an error.
	maxFault = 16 << 10
	// maxFailing is how many blobs in turn may fail before the server counts as away, and
	// maxLacking how many are named.
	maxFailing = 5
	maxLacking = 100
	// longest is the longest time that a job waits for a limit.
	longest = time.Hour
)

// Why a job fails.
var (
	errStalled = errors.New("the other server sends nothing")
	errLimit   = errors.New("the account has brought as much as it may today")
)

// refusal is an answer of another server that is an error.
type refusal struct {
	status int
	name   string
	wait   time.Duration
}

func (e *refusal) Error() string {
	return fmt.Sprintf("the other server answered %d %.50q", e.status, e.name)
}

// words of Job.Error, which pages put into a sentence; behind wordsNetwork and a blank there
// is a text of safehttp.Reason.
const (
	wordsNotFound = "not-found"
	wordsRefused  = "refused"
	wordsNetwork  = "network"
	wordsStalled  = "stalled"
	wordsLarge    = "large"
	wordsWrong    = "wrong"
	wordsChanged  = "changed"
	wordsFull     = "full"
	wordsLimit    = "limit"
	wordsQuota    = "quota"
	wordsNotEmpty = "not-empty"
	wordsClosed   = "closed"
	wordsFault    = "fault"
)

// wordsOf returns why a job failed.
func wordsOf(err error) string {
	for _, one := range []struct {
		err   error
		words string
	}{
		{errStalled, wordsStalled},
		{errLimit, wordsLimit},
		{blob.ErrQuota, wordsQuota},
		{repo.ErrTooLarge, wordsLarge},
		{repo.ErrImport, wordsWrong},
		{repo.ErrConflict, wordsChanged},
		{repo.ErrImporting, wordsChanged},
		{repo.ErrBusy, wordsFull},
		{ErrNotEmpty, wordsNotEmpty},
		{ErrClosed, wordsClosed},
		{ErrStanding, wordsClosed},
	} {
		if errors.Is(err, one.err) {
			return one.words
		}
	}
	if no, ok := errors.AsType[*refusal](err); ok {
		if no.status == http.StatusNotFound || no.status == http.StatusBadRequest {
			return wordsNotFound
		}
		return wordsRefused
	}
	if reason := safehttp.Reason(err); reason != "" {
		return wordsNetwork + " " + reason
	}
	return wordsFault
}

// passing reports whether it is worth trying again.
func passing(err error) bool {
	if no, ok := errors.AsType[*refusal](err); ok {
		return no.status >= http.StatusInternalServerError || no.status == http.StatusTooManyRequests
	}
	if errors.Is(err, safehttp.ErrForbidden) || errors.Is(err, safehttp.ErrTooLarge) {
		return false
	}
	return errors.Is(err, errStalled) || errors.Is(err, repo.ErrBusy) || safehttp.Reason(err) != ""
}

// retried calls do until it succeeds, or it is not worth trying again.
func (s *Service) retried(ctx context.Context, do func() error) error {
	for _, wait := range s.Pauses {
		err := do()
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		if no, ok := errors.AsType[*refusal](err); ok {
			wait = max(wait, min(no.wait, longest))
		}
		if !pause.For(ctx, wait) {
			return ctx.Err()
		}
	}
	return do()
}

// get makes a request of another server, and calls do with its answer.
func (s *Service) get(ctx context.Context, source, nsid string, params url.Values, do func(context.Context, *http.Response) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watch := time.AfterFunc(stalledAfter, func() { end(errStalled) })
	defer watch.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, source+"/xrpc/"+nsid+"?"+params.Encode(), http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the other server: %w", err)
	}
	resp, err := s.HTTP.Do(r)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return refusalOf(resp)
		}
		resp.Body = &watched{resp.Body, watch}
		err = do(ctx, resp)
	}
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// watched is an answer that must go on.
type watched struct {
	io.ReadCloser

	watch *time.Timer
}

func (w *watched) Read(b []byte) (int, error) {
	w.watch.Reset(stalledAfter)
	n, err := w.ReadCloser.Read(b)
	w.watch.Stop() // what is done with it may take long
	return n, err
}

// refusalOf reads an answer that is an error.
func refusalOf(resp *http.Response) error {
	out := &refusal{status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		out.wait = time.Duration(min(seconds, int(longest/time.Second))) * time.Second
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFault))
	var fault struct {
		Error string `json:"error"`
	}
	if err == nil && json.Unmarshal(raw, &fault) == nil {
		out.name = fault.Error
	}
	return out
}

// fetchRepo fetches the repository, and replaces the one here.
func (r *running) fetchRepo(ctx context.Context) error {
	s := r.service
	if err := s.May(ctx, r.owner); err != nil {
		return err
	}
	return s.retried(ctx, func() error {
		r.Bytes = 0
		var file *repo.Received
		err := s.get(ctx, r.Source, "com.atproto.sync.getRepo", url.Values{"did": {r.owner.DID.String()}},
			func(ctx context.Context, resp *http.Response) (err error) {
				file, err = s.Repos.Receive(ctx, &counting{r, ctx, resp.Body}, s.Repos.MaxImportSize())
				return err
			})
		if err != nil {
			return err
		}
		defer file.Close()
		if err := r.look(ctx); err != nil {
			return err
		}
		if err := s.May(ctx, r.owner); err != nil {
			return err
		}
		done, err := file.Import(ctx, repo.Account{ID: r.owner.ID, DID: r.owner.DID})
		r.Records = done.Records
		return err
	})
}

// counting counts the bytes of an answer.
type counting struct {
	*running

	ctx  context.Context //nolint:containedctx // lives as long as one answer
	body io.Reader
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.body.Read(b)
	c.Bytes += int64(n)
	if serr := c.step(c.ctx); serr != nil {
		return 0, serr
	}
	return n, err
}

// fetchBlobs fetches the blobs that records refer to and that are not here.
func (r *running) fetchBlobs(ctx context.Context) error {
	expected, there, err := r.service.Blobs.Count(ctx, r.AccountID)
	if err != nil {
		return err
	}
	r.Total, r.Lacking, r.LackingAll = r.Got+int(expected-there), nil, 0
	failing := 0
	for cursor := ""; ; {
		page, err := r.service.Blobs.Missing(ctx, r.AccountID, cursor, pageOfMissing, nil)
		if err != nil {
			return err
		}
		for _, m := range page {
			cursor = m.CID.String()
			why, err := r.fetchBlob(ctx, m)
			switch {
			case err != nil && !passing(err):
				return err
			case err != nil:
				if failing++; failing == maxFailing {
					return err
				}
				why = Unreadable
			default:
				failing = 0
			}
			if why == "" {
				r.Got++
			} else if r.LackingAll++; len(r.Lacking) < maxLacking {
				r.Lacking = append(r.Lacking, Lacking{cursor, m.Record, why})
			}
			if err := r.step(ctx); err != nil {
				return err
			}
		}
		if len(page) < pageOfMissing {
			return nil
		}
	}
}

// fetchBlob fetches one blob, and returns why it could not be had.
func (r *running) fetchBlob(ctx context.Context, m blob.Missing) (Reason, error) {
	s := r.service
	err := s.retried(ctx, func() error {
		return s.get(ctx, r.Source, "com.atproto.sync.getBlob", url.Values{"did": {r.owner.DID.String()}, "cid": {m.CID.String()}},
			func(ctx context.Context, resp *http.Response) error {
				return s.Blobs.Bring(ctx, r.owner.DID, m.CID, &counting{r, ctx, resp.Body}, resp.ContentLength, resp.Header.Get("Content-Type"))
			})
	})
	if many, full := errors.AsType[request.ErrTooMany](err); full {
		if many.Wait > longest {
			return "", errLimit
		}
		if !pause.For(ctx, many.Wait) {
			return "", ctx.Err()
		}
		return r.fetchBlob(ctx, m)
	}
	no, refused := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		return "", nil
	case refused && (no.status == http.StatusNotFound || no.status == http.StatusBadRequest):
		return Gone, nil
	case errors.Is(err, blob.ErrContent):
		return Damaged, nil
	case errors.Is(err, blob.ErrTooLarge):
		return TooLarge, nil
	case errors.Is(err, blob.ErrTakenDown):
		return TakenDown, nil
	default:
		return "", err
	}
}
