package blob_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/blob"
	"nestbox/repo"
)

// at makes fn run once, when a step is reached.
func (w *world) at(when string, fn func()) {
	w.steps = func(step string) error {
		if step == when {
			w.steps = nil
			fn()
		}
		return nil
	}
}

// dropped makes an upload that a record referred to so long ago that it may be
// removed.
func (w *world) dropped(content string) blob.Blob {
	w.t.Helper()
	b := w.upload(content)
	w.mustWrite("old", b.CID)
	w.mustWrite("old")
	w.Clock.Advance(2 * time.Hour)
	return b
}

// TestDeleteAgainstCreate forces each order in which a record may refer again to a
// blob that is being collected. The blob is there, or the write is refused: no
// record refers to a blob without a file.
func TestDeleteAgainstCreate(t *testing.T) {
	t.Parallel()
	const content = "a picture"
	for _, c := range []struct {
		when    string // the step of the collection
		refused bool
	}{
		{"collect", false},
		{"after collect", true},
		{"after garbage", true},
		{"remove", true},
		{"after remove", true},
		{"forget", true},
		{"after forget", true},
	} {
		t.Run(c.when, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.dropped(content)
			reached := false
			w.at(c.when, func() {
				reached = true
				err := w.write("new", b.CID)
				if !c.refused {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if !errors.Is(err, repo.ErrNoBlob) {
					t.Errorf("%v, want ErrNoBlob", err)
				}
				// The owner uploads it again, as a client would.
				w.mustWrite("new", w.upload(content).CID)
				w.wantRead(content)
			})
			w.collect()
			if !reached {
				t.Fatal("not reached")
			}
			w.wantRead(content)
			w.Clock.Advance(100 * time.Hour)
			w.collect()
			w.wantRead(content)
			if c.refused {
				w.wantFiles("K00002")
			} else {
				w.wantFiles("K00001")
			}
			w.wantNoGarbage()
		})
	}
}

// TestCollectAgainstUpload forces a collection between the steps of an upload of
// the same content.
func TestCollectAgainstUpload(t *testing.T) {
	t.Parallel()
	const content = "a picture"
	for _, when := range []string{"create", "intend", "after intend", "commit", "after commit", "add", "after add"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.dropped(content)
			w.at(when, w.collect)
			w.mustWrite("new", w.upload(content).CID)
			w.collect()
			w.wantRead(content)
			w.wantFiles("K00002")
			w.wantNoGarbage()
		})
	}
}

// TestSlowUpload: an upload that is given up fails, instead of becoming a blob
// whose file is being removed.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"after garbage", "remove", "after remove", "forget", "after forget"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			goOn, waits, done := make(chan struct{}), make(chan struct{}), make(chan error)
			w.at("add", func() { close(waits); <-goOn })
			go func() {
				_, err := w.Upload(t.Context(), w.account.ID, strings.NewReader("slow"), -1, "", anything)
				done <- err
			}()
			<-waits
			w.Clock.Advance(61 * time.Minute)
			var err error
			w.at(when, func() { close(goOn); err = <-done })
			w.collect()
			if !errors.Is(err, blob.ErrAbandoned) {
				t.Errorf("%v, want ErrAbandoned", err)
			}
			w.wantFiles()
			w.wantNoGarbage()
		})
	}
}

// TestReadAgainstUpload: a blob's file is replaced while it is being opened.
func TestReadAgainstUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustWrite("1", w.upload("a picture").CID)
	w.at("open", func() {
		w.upload("a picture")
		w.collect()
		w.wantFiles("K00002")
	})
	w.wantRead("a picture")
	// While it is read, its last reference goes and so does its file.
	b, file, err := w.Open(t.Context(), w.account.ID, cidOf("a picture"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w.mustWrite("1")
	w.Clock.Advance(2 * time.Hour)
	w.collect()
	w.wantFiles()
	if got, err := io.ReadAll(file); string(got) != "a picture" || err != nil {
		t.Errorf("%q, %v of %+v", got, err, b)
	}
}

// TestStorm runs all of it at once, and keeps nothing longer than necessary: every
// blob that a record refers to can be read.
func TestStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Unused, w.Unreferenced = -time.Hour, -time.Hour
	const pictures, rounds = 4, 25
	stop := make(chan struct{})
	var collector, uploads sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := w.Collect(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range pictures {
		uploads.Go(func() {
			for range rounds {
				if _, err := w.Upload(t.Context(), w.account.ID, strings.NewReader(fmt.Sprintf("picture %d", i)), -1, "", anything); err != nil {
					t.Error(err)
				}
			}
		})
	}
	written := 0
	for n := range rounds * pictures {
		content := fmt.Sprintf("picture %d", n%pictures)
		switch err := w.write("x", cidOf(content)); {
		case errors.Is(err, repo.ErrNoBlob):
		case err != nil:
			t.Fatal(err)
		default:
			written++
			w.wantRead(content)
			w.mustWrite("x")
		}
	}
	uploads.Wait()
	close(stop)
	collector.Wait()
	w.collect()
	w.collect()
	w.wantFiles()
	w.wantNoGarbage()
	t.Logf("%d of %d writes found their picture", written, rounds*pictures)
}
