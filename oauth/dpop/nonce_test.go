package dpop_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// at makes a proof with the nonce that is given out at a time.
func (w *world) at(key *oauthtest.Signer, t time.Time) string {
	was := w.now
	w.now = t
	nonce := w.Nonce()
	w.now = was
	return key.Proof("GET", origin+path, nonce, token)
}

// TestNonceForm: the form is the contract's, so that servers with one secret agree.
func TestNonceForm(t *testing.T) {
	mac := hmac.New(sha256.New, secret)
	mac.Write(binary.BigEndian.AppendUint64([]byte("dpop"), uint64(start.Unix()/60)))
	if got, want := newWorld().Nonce(), base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestNonceLife: a nonce is taken in its own window, in the one before, for clocks that are
// ahead, and in the four after it; any number of requests may use it.
func TestNonceLife(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	for minutes := -3; minutes <= 7; minutes++ {
		w := &world{now: start.Add(time.Duration(minutes) * time.Minute)}
		w.Checker = &dpop.Checker{
			Nonces: dpop.NewNonces(secret), Replays: dpop.NewReplays(start.Add(-time.Hour), 0), Origin: origin,
			Now: func() time.Time { return w.now },
		}
		nonce := newWorld().Nonce() // another server's, at start
		for range 3 {
			_, err := w.call(key.Proof("GET", origin+path, nonce, token))
			if minutes >= -1 && minutes <= 4 {
				wants(t, err, "", "")
			} else {
				wants(t, err, dpop.CodeUseNonce, "")
			}
		}
	}
}

// TestNonceTurns: in real time, a nonce is given out for a minute, and works for four to
// five.
func TestNonceTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &dpop.Checker{Nonces: dpop.NewNonces(secret), Replays: dpop.NewReplays(time.Now().Add(-time.Hour), 0), Origin: origin, Now: time.Now}
		key := oauthtest.NewSigner("ES256")
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
		nonce := c.Nonce()
		try := func() error {
			_, err := c.Check(dpop.Request{Headers: []string{key.Proof("GET", origin+path, nonce, token)}, Method: "GET", Path: path, Token: token})
			return err
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if c.Nonce() != nonce {
			t.Error("another nonce within the minute")
		}
		time.Sleep(time.Nanosecond)
		if c.Nonce() == nonce {
			t.Error("the same nonce in the next minute")
		}
		time.Sleep(4*time.Minute - time.Nanosecond)
		wants(t, try(), "", "")
		time.Sleep(time.Nanosecond)
		wants(t, try(), dpop.CodeUseNonce, "")
	})
}

// TestStops: what each kind of stop leaves, and that no proof passes twice over one.
func TestStops(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	old := newWorld()
	used, unused := old.at(key, start), old.at(key, start)
	if _, err := old.call(used); err != nil {
		t.Fatal(err)
	}
	killed := old.Replays.Running()
	left := old.Replays.Save()
	_, err := old.call(old.at(key, start))
	wants(t, err, dpop.CodeUseNonce, "") // it has ended

	clean := newWorld()
	clean.Replays = dpop.LoadReplays(left, start)
	if clean.Replays.Len() != 1 {
		t.Errorf("%d proofs were kept", clean.Replays.Len())
	}
	_, err = clean.call(used)
	wants(t, err, dpop.CodeInvalidProof, "replayed")
	_, err = clean.call(unused)
	wants(t, err, "", "") // a restart breaks nobody

	for name, left := range map[string][]byte{"no file": nil, "killed": killed, "damaged": left[:len(left)-1], "empty": {}} {
		crashed := newWorld()
		crashed.Replays = dpop.LoadReplays(left, start)
		refused := crashed.at(key, start.Add(time.Minute))
		for _, proof := range []string{used, unused} {
			_, err := crashed.call(proof)
			wants(t, err, dpop.CodeUseNonce, "")
		}
		fresh := crashed.at(key, start)
		if _, err := crashed.call(fresh); err != nil {
			t.Errorf("%s: the nonce that is given out: %v", name, err)
		}
		if _, err := crashed.call(refused); err != nil {
			t.Errorf("%s: the nonce of the next minute: %v", name, err)
		}
		// It crashes again, in the same minute: what was used with the next minute's nonce
		// cannot be used once more.
		again := newWorld()
		again.Replays = dpop.LoadReplays(crashed.Replays.Running(), start)
		_, err = again.call(fresh)
		wants(t, err, dpop.CodeUseNonce, "")
		if _, err := again.call(again.at(key, start)); err != nil {
			t.Errorf("%s twice: the nonce that is given out: %v", name, err)
		}
	}
}

// TestCrashLoop: however often a server crashes within a minute, no proof passes twice.
func TestCrashLoop(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	w := newWorld()
	var proofs []string
	for range 200 {
		for _, used := range proofs {
			_, err := w.call(used)
			wants(t, err, dpop.CodeUseNonce, "")
		}
		proof := w.at(key, start)
		if _, err := w.call(proof); err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs[max(0, len(proofs)-5):], proof)
		marker := w.Replays.Running()
		w.Replays = dpop.LoadReplays(marker, start)
	}
}

// TestWrongClock: a floor of a clock that was a year ahead kills no nonce for a year.
func TestWrongClock(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	w := newWorld()
	w.now = start.AddDate(1, 0, 0)
	ahead := w.at(key, w.now)
	if _, err := w.call(ahead); err != nil {
		t.Fatal(err)
	}
	left := w.Replays.Save()
	w = newWorld()
	w.Replays = dpop.LoadReplays(left, start)
	proof := w.at(key, start)
	if _, err := w.call(proof); err != nil {
		t.Error(err)
	}
	if w.now = start.Add(10 * time.Minute); w.Nonce() == "" {
		t.Error("no nonce")
	}
	_, err := w.call(proof)
	wants(t, err, dpop.CodeUseNonce, "")
}

// TestNeverTwice: over any sequence of requests, time that passes or goes back, clean stops
// and crashes, no proof passes twice; the nonce that is given out works at once, and a
// nonce that was refused is not the one that is given out then.
func TestNeverTwice(t *testing.T) {
	keys := []*oauthtest.Signer{oauthtest.NewSigner("ES256"), oauthtest.NewSigner("ES256")}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.Replays = dpop.NewReplays(start, 0)
		marker, latest := w.Replays.Running(), start
		var proofs []string
		passed := map[string]bool{}
		nonceOf := map[string]string{}
		try := func(proof string) {
			_, err := w.call(proof)
			var e *dpop.Error
			switch {
			case err == nil && passed[proof]:
				t.Fatal("a proof passed twice")
			case err == nil:
				passed[proof] = true
			case errors.As(err, &e) && e.Code == dpop.CodeUseNonce && w.Nonce() == nonceOf[proof]:
				t.Fatal("the refused nonce is given out")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"fresh": func(t *rapid.T) {
				nonce := w.Nonce()
				proof := rapid.SampledFrom(keys).Draw(t, "key").Proof("GET", origin+path, nonce, token)
				proofs, nonceOf[proof] = append(proofs, proof), nonce
				if rapid.Bool().Draw(t, "now") {
					if try(proof); !passed[proof] {
						t.Fatal("the nonce that is given out does not work")
					}
				}
			},
			"known": func(t *rapid.T) {
				if len(proofs) > 0 {
					try(rapid.SampledFrom(proofs).Draw(t, "proof"))
				}
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(-200, 400).Draw(t, "seconds")) * time.Second)
				if w.now.After(latest) {
					latest = w.now
				}
			},
			"stop": func(*rapid.T) {
				w.Replays = dpop.LoadReplays(w.Replays.Save(), w.now)
				marker = w.Replays.Running()
			},
			"crash": func(t *rapid.T) {
				if w.now.Before(latest) { // nobody remembers what a clock showed before a crash
					w.now = latest
				}
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
				latest = w.now
				w.Replays = dpop.LoadReplays(marker, w.now)
				marker = w.Replays.Running()
			},
		})
	})
}
