package moving

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"nestbox/internal/safehttp"
	"nestbox/repo"
)

// TestSource: the address of another server, and nothing more.
func TestSource(t *testing.T) {
	t.Parallel()
	s := &Service{URL: "https://here.example"}
	for text, want := range map[string]string{
		"old.example": "https://old.example", " Old.Example/ ": "https://old.example", "https://old.example": "https://old.example",
		"http://127.0.0.1:2583": "http://127.0.0.1:2583", "old.example:8443": "https://old.example:8443",
		"": "", "https://": "", "here.example": "", "https://old.example/xrpc": "", "https://old.example?x": "", "https://old.example#x": "",
		"https://a@old.example": "", "ftp://old.example": "", "javascript://old.example": "", "old example": "", "https://:443": "",
	} {
		got, err := s.Source(text)
		if got != want || errors.Is(err, ErrSource) != (want == "") {
			t.Errorf("%q: %q %v, want %q", text, got, err, want)
		}
	}
}

// TestServersOf: the servers of a log, without those of operations that were undone.
func TestServersOf(t *testing.T) {
	t.Parallel()
	op := func(pds string, undone bool) string {
		return fmt.Sprintf(`{"did":"did:plc:x","nullified":%t,"operation":{"type":"plc_operation","sig":"x","prev":null,"rotationKeys":[],"alsoKnownAs":[],
			"verificationMethods":{},"services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":%q}}}}`, undone, pds)
	}
	got, err := serversOf([]byte("[" + op("https://one.example", false) + "," + op("https://undone.example", true) + "," + op("https://two.example", false) + "]"))
	if want := []string{"https://one.example", "https://two.example"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	for _, wrong := range []string{"", "{}", "[1]", `[{"operation":{}}]`} {
		if got, err := serversOf([]byte(wrong)); err == nil {
			t.Errorf("%s: %q", wrong, got)
		}
	}
}

// TestWordsOf: each fault has a word, and only what may pass is tried again.
func TestWordsOf(t *testing.T) {
	t.Parallel()
	network := &http.Client{Transport: safehttp.RoundTripper(safehttp.Options{AllowLoopback: true}, &http.Transport{}), Timeout: time.Second}
	_, refused := network.Get("http://127.0.0.1:1") //nolint:noctx,bodyclose // nobody answers
	_, private := network.Get("https://10.0.0.1")   //nolint:noctx,bodyclose // nobody is asked
	for _, c := range []struct {
		err   error
		words string
		again bool
	}{
		{&refusal{status: 400, name: "RepoNotFound"}, wordsNotFound, false},
		{&refusal{status: 404}, wordsNotFound, false},
		{&refusal{status: 403}, wordsRefused, false},
		{&refusal{status: 429}, wordsRefused, true},
		{&refusal{status: 502}, wordsRefused, true},
		{errStalled, wordsStalled, true},
		{refused, wordsNetwork + " connection failed: it was refused", true},
		{private, wordsNetwork + " address not public", false},
		{fmt.Errorf("x: %w", repo.ErrTooLarge), wordsLarge, false},
		{repo.ErrImport, wordsWrong, false},
		{repo.ErrConflict, wordsChanged, false},
		{repo.ErrBusy, wordsFull, true},
		{ErrNotEmpty, wordsNotEmpty, false},
		{errors.New("a fault"), wordsFault, false},
	} {
		if got, again := wordsOf(c.err), passing(c.err); got != c.words || again != c.again {
			t.Errorf("%v: %q, again %t; want %q, %t", c.err, got, again, c.words, c.again)
		}
	}
}
