package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/internal/gate"
	"nestbox/proxy/readafterwrite"
	"nestbox/repo"
	"nestbox/request"
)

const (
	// mungeTime bounds what is asked for a change of an answer.
	mungeTime = 2 * time.Second
	// usualAnswer is the size, in bytes, up to which answers are changed at any time. Of
	// larger ones, up to maxMunged, only largeAnswers are in memory at once, and so many of
	// one account: the rest goes out unchanged.
	usualAnswer    = 1 << 20
	maxMunged      = 10 << 20
	largeAnswers   = 8
	largeOfAccount = 2
	// mungedAtOnce answers are changed at once, and so many of one account; the rest goes
	// out unchanged. What is asked for a change has maxSideAnswer bytes at most.
	mungedAtOnce    = 64
	mungedOfAccount = 8
	maxSideAnswer   = 1 << 20
)

// munge adds to an answer what the service has not seen of the account. done is false if
// the answer is to be passed on as it is, behind the part that was read. refused is the
// error that is passed on otherwise, nil for an answer of success.
func (s *Service) munge(w http.ResponseWriter, r *http.Request, a *answer, refused error) (done bool, begun []byte, err error) {
	ctx, by := r.Context(), a.call.by
	if !s.mayMunge(a, refused) {
		return false, nil, nil
	}
	news, ok := s.unseen(ctx, a)
	if !ok {
		return false, nil, nil
	}
	share := gate.Share[string]{Key: by.DID.String(), Most: mungedOfAccount}
	place, err := s.munging.Try(gate.Room{All: mungedAtOnce}, share)
	if err != nil {
		return false, nil, nil // the answer goes out as it is
	}
	defer place.Leave()
	var body []byte
	if e, isError := errors.AsType[*refusalError](refused); isError {
		body = e.body
	} else {
		var whole bool
		if begun, body, whole, err = s.readWhole(a); err != nil || !whole {
			return false, begun, err
		}
	}
	within, cancel := context.WithTimeout(ctx, mungeTime)
	defer cancel()
	query, err := url.ParseQuery(a.call.query)
	if err != nil {
		return false, begun, nil // the service understood it
	}
	changed, ok, err := s.editor.Edit(within,
		readafterwrite.Call{Method: a.call.nsid, Query: query, Status: a.StatusCode, Body: body},
		callerOf(by), news, ownRecords{s.Repos, by}, &sideCalls{s, a.call})
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "what an account wrote was not, or not wholly, added to an answer",
			slog.String("did", by.DID.String()), slog.String("nsid", a.call.nsid), slog.String("cause", err.Error()))
	}
	if !ok {
		return false, begun, nil
	}
	oldest := news.Oldest()
	if oldest.IsZero() { // only deletions: nobody knows when
		oldest = syntax.TID(a.Header.Get(headerRev)).Time()
	}
	lag := s.Now().Sub(oldest)
	request.Note(ctx, slog.Bool("munged", true), slog.Duration("lag", lag))
	h := w.Header()
	copyHeaders(h, a.Header, headerRev, headerLabelers)
	h[headerLag] = []string{strconv.FormatInt(max(lag.Milliseconds(), 0), 10)}
	h["Content-Type"] = []string{"application/json; charset=utf-8"}
	h["Content-Length"] = []string{strconv.Itoa(len(changed))}
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(changed) //nolint:gosec // JSON, and never a page: see commonHeaders
	return true, nil, err
}

// mayMunge reports whether an answer is one that may be changed.
func (*Service) mayMunge(a *answer, refused error) bool {
	if a.call.by == nil || a.call.method != http.MethodGet || !readafterwrite.Reads(a.call.nsid) {
		return false
	}
	if media := a.Header.Get("Content-Type"); media != "" && !isJSON(media) {
		return false
	}
	if e, isError := errors.AsType[*refusalError](refused); isError {
		return a.StatusCode == http.StatusBadRequest && e.name == "NotFound" && e.body != nil
	}
	return refused == nil && a.StatusCode == http.StatusOK
}

// unseen returns what the service had not seen of the account when it made an answer, and
// whether that is anything.
func (s *Service) unseen(ctx context.Context, a *answer) (news readafterwrite.News, ok bool) {
	rev, err := syntax.ParseTID(a.Header.Get(headerRev))
	if err != nil {
		return news, false
	}
	newer, err := s.Repos.Newer(ctx, a.call.by.ID, rev, readafterwrite.ShowsPosts(a.call.nsid))
	if err == nil && newer.Empty() {
		return news, false
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "what an account wrote was not found",
			slog.String("did", a.call.by.DID.String()), slog.String("cause", err.Error()))
		return news, false
	}
	return newsOf(newer), true
}

// readWhole reads an answer and decodes it. raw is what was read as it came; whole is
// false if the answer is too large to be changed, or cannot be decoded.
func (s *Service) readWhole(a *answer) (raw, body []byte, whole bool, err error) {
	if raw, whole, err = a.readUpTo(nil, usualAnswer); err != nil {
		return nil, nil, false, broken(err)
	}
	if whole {
		body, err = decoded(a.Header, raw, usualAnswer)
		if err == nil || !errors.Is(err, errDecodedTooLarge) {
			return raw, body, err == nil, nil
		}
	}
	did := a.call.by.DID.String()
	place, err := s.large.Try(gate.Room{All: largeAnswers}, gate.Share[string]{Key: did, Most: largeOfAccount})
	if err != nil {
		return raw, nil, false, nil //nolint:nilerr // it goes out as it is
	}
	end := a.end
	a.end = func() { end(); place.Leave() }
	if !whole {
		if raw, whole, err = a.readUpTo(raw, maxMunged); err != nil {
			return nil, nil, false, broken(err)
		}
	}
	if whole {
		body, err = decoded(a.Header, raw, maxMunged)
	}
	return raw, body, whole && err == nil, nil
}

// readUpTo reads on until the end of an answer, or until more than limit bytes were read
// in all.
func (a *answer) readUpTo(begun []byte, limit int) (raw []byte, whole bool, err error) {
	b := bytes.NewBuffer(begun)
	if a.ContentLength > 0 && a.ContentLength <= int64(limit) {
		b.Grow(int(a.ContentLength) + bytes.MinRead)
	}
	_, err = b.ReadFrom(io.LimitReader(&a.body, int64(limit+1-len(begun))))
	return b.Bytes(), b.Len() <= limit, err
}

func callerOf(a *account.Account) readafterwrite.Caller {
	c := readafterwrite.Caller{DID: a.DID, Handle: a.Handle.String()}
	if a.HandleInvalid {
		c.Handle = syntax.HandleInvalid.String()
	}
	return c
}

// newsOf returns what is new as JSON. A post that was imported and has no form in JSON is
// left out.
func newsOf(n repo.News) readafterwrite.News {
	out := readafterwrite.News{ProfileNew: n.ProfileNew, Deleted: n.Deleted}
	for _, p := range n.Posts {
		if post, err := recordOf(p); err == nil {
			out.Posts = append(out.Posts, post)
		}
	}
	if n.Profile != nil {
		if profile, err := recordOf(*n.Profile); err == nil {
			out.Profile = &profile
		}
	}
	return out
}

// recordOf returns a record as JSON.
func recordOf(r repo.Record) (readafterwrite.Record, error) {
	collection, rkey, _ := strings.Cut(r.Key, "/")
	value, err := r.AppendJSON(nil)
	return readafterwrite.Record{Collection: collection, RecordKey: rkey, CID: r.CID.String(), Rev: r.Rev, Value: value}, err
}

// ownRecords implements readafterwrite.Repository.
type ownRecords struct {
	repos Repos
	by    *account.Account
}

// Record implements readafterwrite.Repository.
func (o ownRecords) Record(ctx context.Context, collection, rkey string) (readafterwrite.Record, bool, error) {
	found, err := o.repos.Own(ctx, o.by.ID, collection+"/"+rkey)
	if errors.Is(err, repo.ErrNoRecord) {
		return readafterwrite.Record{}, false, nil
	}
	if err != nil {
		return readafterwrite.Record{}, false, err
	}
	out, err := recordOf(found)
	return out, err == nil, err
}

// sideCalls implements readafterwrite.Upstream.
type sideCalls struct {
	s  *Service
	of *call
}

// Get implements readafterwrite.Upstream.
func (c *sideCalls) Get(ctx context.Context, method string, query url.Values) ([]byte, error) {
	of := *c.of
	of.nsid, of.query, of.lxm, of.audience, of.body, of.aside = method, query.Encode(), "", "", nil, true
	answer, err := c.s.ask(ctx, &of, maxSideAnswer)
	if e, ok := errors.AsType[*refusalError](err); ok && (e.status == http.StatusBadRequest || e.status == http.StatusNotFound) {
		return nil, fmt.Errorf("%w: %w", readafterwrite.ErrMissing, err)
	}
	return answer, err
}

// ask makes a call whose answer is read here: a JSON value of at most limit bytes. Its
// errors are those of send, and refusals.
func (s *Service) ask(ctx context.Context, c *call, limit int) ([]byte, error) {
	a, err := s.send(ctx, c)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if err := a.refused(); err != nil {
		return nil, err
	}
	raw, whole, err := a.readUpTo(nil, limit)
	switch {
	case err != nil:
		return nil, broken(err)
	case !whole:
		return nil, failed(messageFailure+": the answer is too large", nil)
	}
	body, err := decoded(a.Header, raw, limit)
	if err != nil {
		return nil, failed(messageFailure, fmt.Errorf("%s: %w", c.nsid, err))
	}
	return body, nil
}
