package faults

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Plan is which faults happen. Its JSON is the format of the files that --faults reads.
type Plan struct {
	// Name is for people: the preset, or the file.
	Name string `json:"name,omitzero"`
	// Seed decides where a Share falls. Zero: one is picked, and shown.
	Seed uint32 `json:"seed,omitzero"`
	// Faults are tried in this order. Of those that lose, cut or replace the answer the first one that
	// can counts.
	Faults []Fault `json:"faults"`
}

// Fault is one kind of fault, and the calls at which it happens.
type Fault struct {
	Kind Kind `json:"fault"`
	// Methods are NSIDs, paths, or either with a star at the end; or Refresh, or SignIn. Empty:
	// every XRPC method, and the endpoints of OAuth that clients call.
	Methods []string `json:"methods,omitempty"`
	// Accounts are DIDs or handles; empty for all, and for calls of nobody.
	Accounts []string `json:"accounts,omitempty"`
	// Share is the part of an account's calls, above 0 and below 1. Every 3 is each third of them.
	// If both are zero, the fault happens at every call.
	Share float64 `json:"share,omitzero"`
	Every int     `json:"every,omitzero"`
	// Status and RetryAfter are those of an answer; Done: the server has done the work before.
	Status     int      `json:"status,omitzero"`
	RetryAfter Duration `json:"retryAfter,omitzero"`
	Done       bool     `json:"done,omitzero"`
	// From and To bound a delay, maxDelay at most. From may be 0.
	From Duration `json:"from,omitzero"`
	To   Duration `json:"to,omitzero"`
	// For is a life, a window, or how long something lasts. By is how far a clock is ahead, or
	// behind if it is negative.
	For Duration `json:"for,omitzero"`
	By  Duration `json:"by,omitzero"`
}

// The words for methods by their purpose.
const (
	// Refresh is refreshSession, and /oauth/token with a refresh token.
	Refresh = "refresh"
	// SignIn is createSession, createAccount, and /oauth/token with a code.
	SignIn = "sign-in"
)

// Kind is a kind of fault.
type Kind = string

// The kinds.
const (
	// LostAfter: the server does the work, and its answer is lost.
	LostAfter Kind = "lost-after"
	// LostBefore: the request is lost; the server never sees it.
	LostBefore Kind = "lost-before"
	// Delay: the answer comes later.
	Delay Kind = "delay"
	// Cut: half of the answer's body comes, then the connection ends.
	Cut Kind = "cut"
	// Reset: the connection is reset before the server sees the request.
	Reset Kind = "reset"
	// Status: an error in place of the answer.
	Status Kind = "status"
	// Page: a proxy's HTML page in place of the answer.
	Page Kind = "html"
	// Restart: all connections are cut, and new ones are reset for a while.
	Restart Kind = "restart"
	// AccessLife and RefreshLife: tokens that are given out live so long.
	AccessLife  Kind = "access-life"
	RefreshLife Kind = "refresh-life"
	// Clock: tokens that are given out are dated by a clock that is wrong.
	Clock Kind = "clock"
	// Nonce: each DPoP nonce works once.
	Nonce Kind = "nonce"
	// ReuseWindow: a refresh token that was superseded for good is refused after so long.
	ReuseWindow Kind = "reuse-window"
	// Revoke: the caller's session ends, then the call is answered.
	Revoke Kind = "revoke"
	// Takedown, Deactivate: the caller's account is taken down, or deactivated, then the call is
	// answered.
	Takedown   Kind = "takedown"
	Deactivate Kind = "deactivate"
)

// needs are the members of a Fault that a kind may have, beside those that say when it happens;
// those that end in ! it must have.
func needs() map[Kind]string {
	return map[Kind]string{
		LostAfter: "", LostBefore: "", Cut: "", Reset: "", Nonce: "", Revoke: "",
		Delay: "from to!", Status: "status! retryAfter done", Page: "status done", Restart: "for",
		AccessLife: "for!", RefreshLife: "for!", Clock: "by!", ReuseWindow: "for!", Takedown: "for", Deactivate: "for",
	}
}

// Duration is a time.Duration that is written as text: 20s, 5m.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time: write 20s or 5m", text)
	}
	*d = Duration(parsed)
	return nil
}

// String returns the text, without units that are zero: 5m, not 5m0s.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// maxPlan bounds a file, in bytes.
const maxPlan = 1 << 20

// maxDelay bounds how late an answer is, of all faults at a call: the server ends a connection on which
// an answer takes much longer.
const maxDelay = time.Minute

// ReadPlan reads a plan as JSON, and checks it.
func ReadPlan(r io.Reader) (Plan, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPlan))
	if err != nil {
		return Plan{}, fmt.Errorf("read faults: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var p Plan
	if err := dec.Decode(&p); err != nil {
		if number, of := wrongFault(text); of != nil {
			return Plan{}, fmt.Errorf("read faults: fault %d: %w", number, plainly(of, text))
		}
		return Plan{}, fmt.Errorf("read faults: %w", plainly(err, text))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Plan{}, errors.New("read faults: there is more behind the plan")
	}
	dec = json.NewDecoder(bytes.NewReader(text))
	if err := misread(dec, ""); err != nil {
		return Plan{}, fmt.Errorf("read faults: line %d: %w", lineAt(text, dec.InputOffset()), err)
	}
	return p, p.Check()
}

// wrongFault returns the number of the first fault of a plan that is none, from 1, and why; nil if all are.
func wrongFault(text []byte) (number int, err error) {
	var p struct{ Faults []json.RawMessage }
	_ = json.Unmarshal(text, &p) // an error that is in no fault gets no number
	for i, raw := range p.Faults {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&Fault{}); err != nil {
			return i + 1, err
		}
	}
	return 0, nil
}

// lineAt returns the number of the line at an offset of a text, from 1.
func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(offset, int64(len(text)))], []byte("\n"))
}

// misread returns what the next value, a member of that name, has and a Plan does not show: an object's
// member that is there twice, or one that says when a fault happens, and is 0, null or an empty list.
func misread(dec *json.Decoder, name string) error {
	value, err := dec.Token()
	if err != nil {
		return err
	}
	limits := slices.Contains([]string{"share", "every", "methods", "accounts"}, name)
	empty := value == json.Delim('[') && !dec.More()
	switch {
	case limits && value == 0.0:
		return fmt.Errorf("%s must be above 0; without it the fault happens at each call", name)
	case limits && (value == nil || empty):
		return fmt.Errorf("%s is empty: leave it out if the fault is not limited by it", name)
	case value != json.Delim('{') && value != json.Delim('['):
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if value == json.Delim('{') {
			token, err := dec.Token()
			if err != nil {
				return err
			}
			if name = strings.ToLower(fmt.Sprint(token)); seen[name] {
				return fmt.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if err := misread(dec, name); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// plainly returns for people why a text is not the JSON of a plan.
func plainly(err error, text []byte) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	name, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case unknown:
		return fmt.Errorf("a plan has no member %s", name)
	case errors.Is(err, io.EOF):
		return errors.New("there is no plan, the text is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the text ends in the middle of the plan")
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d is not JSON", lineAt(text, syntax.Offset))
	case errors.As(err, &kind) && kind.Type == reflect.TypeFor[Fault]():
		return errors.New("a fault must be an object")
	case errors.As(err, &kind):
		return fmt.Errorf("%s must be %s", cmp.Or(kind.Field, "the plan"), valueOf(kind.Type))
	}
	return err
}

// valueOf describes the JSON of a type.
func valueOf(t reflect.Type) string {
	if t == reflect.TypeFor[Duration]() {
		return "a time, such as \"20s\""
	}
	switch t.Kind() { //nolint:exhaustive // the types of a Plan
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number that is not too large"
}

// Check returns all that is wrong with a plan, but for what depends on the server.
func (p Plan) Check() error {
	var wrong []error
	for i, f := range p.Faults {
		for _, problem := range f.problems() {
			wrong = append(wrong, fmt.Errorf("fault %d (%s): %s", i+1, f.Kind, problem))
		}
	}
	return errors.Join(wrong...)
}

func (f Fault) problems() []string {
	takes, known := needs()[f.Kind]
	if !known {
		return []string{"there is no such fault"}
	}
	var all []string
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"status", f.Status != 0},
		{"retryAfter", f.RetryAfter != 0},
		{"done", f.Done},
		{"from", f.From != 0},
		{"to", f.To != 0},
		{"for", f.For != 0},
		{"by", f.By != 0},
	} {
		words := strings.Fields(takes)
		switch {
		case m.set && !slices.Contains(words, m.name) && !slices.Contains(words, m.name+"!"):
			all = append(all, m.name+" means nothing for it")
		case !m.set && slices.Contains(words, m.name+"!"):
			all = append(all, m.name+" is missing")
		}
	}
	if f.Share < 0 || f.Share >= 1 {
		all = append(all, "share must be above 0 and below 1")
	}
	if f.Every < 0 {
		all = append(all, "every must be above 0")
	}
	if f.Share != 0 && f.Every != 0 {
		all = append(all, "share and every exclude each other")
	}
	if f.Status != 0 && (f.Status < http.StatusBadRequest || f.Status > 599) {
		all = append(all, "status must be from 400 to 599")
	}
	if f.From < 0 || f.To < f.From {
		all = append(all, "to must not be less than from")
	}
	if f.To > Duration(maxDelay) {
		all = append(all, "to must not be above "+Duration(maxDelay).String()+": the server ends a connection whose answer takes longer")
	}
	if f.Kind == Restart && f.For > Duration(maxDelay) {
		all = append(all, "for must not be above "+Duration(maxDelay).String())
	}
	if f.For < 0 || f.RetryAfter < 0 {
		all = append(all, "a time must not be negative")
	}
	return append(all, f.misnamed()...)
}

// hits reports whether fault i happens at the n-th call of an account that it names, from 1.
func (p Plan) hits(i, n int) bool {
	f := p.Faults[i]
	switch {
	case f.Every > 0:
		return n%f.Every == 0
	case f.Share > 0:
		return p.draw("happens", i, n) < f.Share
	}
	return true
}

// delay returns how late the answer to that call is.
func (p Plan) delay(i, n int) time.Duration {
	f := p.Faults[i]
	return time.Duration(f.From) + time.Duration(p.draw("how late", i, n)*float64(f.To-f.From))
}

// draw returns a number from 0 to below 1 that its arguments and the seed decide.
func (p Plan) draw(what string, i, n int) float64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %d", p.Seed, what, i, n))
	const bits = 53
	return float64(binary.BigEndian.Uint64(sum[:])>>(64-bits)) / (1 << bits)
}

// String returns the fault in a line: what, where, how often.
func (f Fault) String() string {
	words := []string{f.Kind}
	for _, m := range []struct {
		name string
		of   Duration
	}{{"from", f.From}, {"to", f.To}, {"for", f.For}, {"by", f.By}} {
		if m.of != 0 {
			words = append(words, m.name, m.of.String())
		}
	}
	if f.Status != 0 {
		words = append(words, fmt.Sprint(f.Status))
	}
	if f.RetryAfter != 0 {
		words = append(words, "Retry-After", f.RetryAfter.String())
	}
	if f.Done {
		words = append(words, "once it is done")
	}
	words = append(words, "at")
	switch {
	case f.Every > 1:
		words = append(words, fmt.Sprintf("one in %d of", f.Every))
	case f.Share > 0:
		words = append(words, fmt.Sprintf("%g %% of", f.Share*100))
	}
	if len(f.Methods) == 0 {
		words = append(words, "all calls")
	}
	words = append(words, strings.Join(f.Methods, ", "))
	if len(f.Accounts) > 0 {
		words = append(words, "by", strings.Join(f.Accounts, ", "))
	}
	return strings.TrimSpace(strings.Join(words, " "))
}
