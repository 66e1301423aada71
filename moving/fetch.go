package moving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nestbox/blob"
	"nestbox/internal/safehttp"
	"nestbox/repo"
	"nestbox/request"
)

const (
	// stalledAfter is how long another server may send nothing.
	stalledAfter = time.Minute
	// maxFault bounds, in bytes, an answer that is an error.
	maxFault = 16 << 10
	// pace is how fast a file must come, in bytes a second, behind stalledAfter: that of
	// repositories, which package repo has.
	pace = 32 << 10
	// maxFailing is how many blobs in turn may fail before the server counts as away, and
	// maxLacking how many are named.
	maxFailing = 3
	maxLacking = 100
	// longest is the longest time that a job waits for a limit of this server, and patience
	// for one of the other.
	longest  = time.Hour
	patience = 10 * time.Minute
)

// Why a job fails.
var (
	errStalled = errors.New("the other server sends nothing")
	errSlow    = fmt.Errorf("the other server sends less than %d bytes a second", pace)
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
	wordsSlow     = "slow"
	wordsLong     = "long"
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
		{errSlow, wordsSlow},
		{repo.ErrSlow, wordsSlow},
		{errLong, wordsLong},
		{errLimit, wordsLimit},
		{blob.ErrQuota, wordsQuota},
		{repo.ErrTooLarge, wordsLarge},
		{repo.ErrImport, wordsWrong},
		{repo.ErrConflict, wordsChanged},
		{ErrChanged, wordsChanged},
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
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return false
	}
	return errors.Is(err, errStalled) || errors.Is(err, errSlow) || errors.Is(err, repo.ErrBusy) || safehttp.Reason(err) != ""
}

// later returns err, or if it is worth trying again, a pause: each time in turn that a job
// gets nothing is followed by a longer one, until those of Pauses are over.
func (r *running) later(err error) error {
	if !passing(err) {
		return err
	}
	if r.failed++; r.failed > len(r.service.Pauses) {
		return err
	}
	wait := r.service.Pauses[r.failed-1]
	if no, ok := errors.AsType[*refusal](err); ok {
		wait = max(wait, min(no.wait, patience))
	}
	return &paused{wait, err}
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
		out.wait = time.Duration(min(seconds, int(patience/time.Second))) * time.Second
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
	r.Bytes = 0
	var file *repo.Received
	err := s.get(ctx, r.Source, "com.atproto.sync.getRepo", url.Values{"did": {r.owner.DID.String()}},
		func(ctx context.Context, resp *http.Response) (err error) {
			file, err = s.Repos.Receive(ctx, &counting{running: r, ctx: ctx, body: resp.Body}, s.Repos.MaxImportSize(),
				func() bool { return s.makeRoom(nil) })
			return err
		})
	if err != nil {
		return r.later(err)
	}
	defer file.Close()
	if err := r.look(ctx); err != nil {
		return err
	}
	if err := s.May(ctx, r.owner); err != nil {
		return err
	}
	done, err := file.Import(ctx, repo.Account{ID: r.owner.ID, DID: r.owner.DID}, r.Over)
	r.Records = done.Records
	return r.later(err)
}

// counting counts the bytes of an answer.
type counting struct {
	*running

	ctx  context.Context //nolint:containedctx // lives as long as one answer
	body io.Reader
	// paced: it must come at pace; got has come, and was waited for.
	paced  bool
	got    int64
	waited time.Duration
}

func (c *counting) Read(b []byte) (int, error) {
	begun := c.service.Now()
	n, err := c.body.Read(b)
	c.waited += c.service.Now().Sub(begun)
	c.got += int64(n)
	c.Bytes += int64(n)
	if c.paced && c.waited > stalledAfter+time.Duration(c.got/pace)*time.Second {
		return 0, errSlow
	}
	if serr := c.step(c.ctx); serr != nil {
		return 0, serr
	}
	return n, err
}

// fetchBlobs fetches the blobs that records refer to and that are not here.
func (r *running) fetchBlobs(ctx context.Context) error {
	if !r.listed { // once in each run of the server
		expected, there, err := r.service.Blobs.Count(ctx, r.AccountID)
		if err != nil {
			return err
		}
		r.Total, r.Lacking, r.LackingAll, r.listed = r.Got+int(expected-there), nil, 0, true
	}
	for {
		page, err := r.service.Blobs.Missing(ctx, r.AccountID, r.cursor, pageOfMissing, nil)
		if err != nil {
			return err
		}
		for _, m := range page {
			why, err := r.fetchBlob(ctx, m)
			if err == nil {
				r.failed = 0
			} else if why, err = r.unreadable(err); err != nil {
				return err
			}
			r.note(m, why)
			if err := r.step(ctx); err != nil {
				return err
			}
			if r.service.Now().Sub(r.begun) > turn && r.service.othersWait() {
				return errYield
			}
		}
		if len(page) < pageOfMissing {
			return nil
		}
	}
}

// unreadable returns what a fault of a blob means: a pause before it is asked for again, or
// Unreadable, or the end of the job, if the fault is the server's or has met several blobs.
func (r *running) unreadable(err error) (Reason, error) {
	if errors.Is(err, errSlow) { // again would be no faster
		r.failed = max(r.failed, len(r.service.Pauses))
	}
	err = r.later(err)
	if _, again := errors.AsType[*paused](err); again || !passing(err) {
		return "", err
	}
	no, refused := errors.AsType[*refusal](err)
	away := refused && no.status == http.StatusTooManyRequests || !refused && safehttp.Reason(err) != ""
	if away || r.failed >= len(r.service.Pauses)+maxFailing {
		return "", err
	}
	return Unreadable, nil
}

// note notes what became of a blob.
func (r *running) note(m blob.Missing, why Reason) {
	r.cursor = m.CID.String()
	if why == "" {
		r.Got++
	} else if r.LackingAll++; len(r.Lacking) < maxLacking {
		r.Lacking = append(r.Lacking, Lacking{r.cursor, m.Record, why})
	}
}

// fetchBlob fetches one blob, and returns why it could not be had.
func (r *running) fetchBlob(ctx context.Context, m blob.Missing) (Reason, error) {
	s := r.service
	err := s.get(ctx, r.Source, "com.atproto.sync.getBlob", url.Values{"did": {r.owner.DID.String()}, "cid": {m.CID.String()}},
		func(ctx context.Context, resp *http.Response) error {
			body := &counting{running: r, ctx: ctx, body: resp.Body, paced: true}
			return s.Blobs.Bring(ctx, r.owner.DID, m.CID, body, resp.ContentLength, resp.Header.Get("Content-Type"))
		})
	if many, full := errors.AsType[request.ErrTooMany](err); full {
		if many.Wait > longest {
			return "", errLimit
		}
		return "", &paused{many.Wait, err}
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
