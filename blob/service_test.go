package blob_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"nestbox/blob"
)

func TestUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, content := range []string{"", "hello", strings.Repeat("long ", 100_000), strings.Repeat("x", 1<<20)} {
		b := w.upload(content)
		want := blob.Blob{CID: cidOf(content), Size: int64(len(content)), MimeType: "text/plain", Key: b.Key, CreatedAt: w.start}
		if b != want {
			t.Errorf("uploaded %+v\nwant %+v", b, want)
		}
		w.wantGone(content)
		w.mustWrite(b.Key, b.CID)
		w.wantRead(content)
	}
	if _, err := w.Upload(t.Context(), w.account.ID, strings.NewReader(strings.Repeat("x", 1<<20+1)), -1, "", anything); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := w.Upload(t.Context(), w.account.ID+1, strings.NewReader("x"), -1, "", anything); !errors.Is(err, blob.ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	w.Clock.Advance(2 * time.Hour)
	w.collect()
	w.wantFiles("K00001", "K00002", "K00003", "K00004")
	w.restart()
	w.wantRead("hello")
}

// TestUploadInParts: the result of an upload does not depend on how its bytes
// arrive.
func TestUploadInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + strings.Repeat("pixels", 1000)
	for name, body := range map[string]io.Reader{
		"byte by byte":      iotest.OneByteReader(strings.NewReader(content)),
		"end with data":     iotest.DataErrReader(strings.NewReader(content)),
		"half of each read": iotest.HalfReader(strings.NewReader(content)),
	} {
		b, err := w.Upload(t.Context(), w.account.ID, body, -1, "image/gif", anything)
		if err != nil || b.CID != cidOf(content) || b.MimeType != "image/png" || b.Size != int64(len(content)) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Quota = 10
	b := w.upload("12345")
	if _, err := w.Upload(t.Context(), w.account.ID, strings.NewReader("123456"), -1, "", anything); !errors.Is(err, blob.ErrQuota) {
		t.Errorf("over quota: %v", err)
	}
	w.upload("67890")
	w.mustWrite("1", b.CID)
	w.collect()
	w.wantFiles("K00001", "K00002")
	w.Clock.Advance(25 * time.Hour)
	w.collect()
	w.upload("abcde") // there is room again
}

var errStep = errors.New("this step failed")

// TestUploadFails: whatever step fails, the upload is an error and leaves no file
// and no row; the next upload works.
func TestUploadFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"create", "write", "intend", "after intend", "commit", "after commit", "add"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			failed := false
			w.steps = func(step string) error {
				if step == failing {
					failed = true
					return errStep
				}
				return nil
			}
			if b, err := w.Upload(t.Context(), w.account.ID, strings.NewReader("hello"), -1, "", anything); !errors.Is(err, errStep) || !failed {
				t.Errorf("%+v, %v", b, err)
			}
			w.steps = nil
			if err := w.write("1", cidOf("hello")); err == nil {
				t.Error("a record refers to what was not uploaded")
			}
			w.Clock.Advance(2 * time.Hour)
			w.collect()
			w.wantFiles()
			w.wantNoGarbage()
			w.mustWrite("1", w.upload("hello").CID)
			w.wantRead("hello")
		})
	}
	t.Run("after add", func(t *testing.T) { // it is saved, but the owner got an error
		t.Parallel()
		w := newWorld(t)
		w.steps = func(step string) error {
			if step == "after add" {
				return errStep
			}
			return nil
		}
		if _, err := w.Upload(t.Context(), w.account.ID, strings.NewReader("hello"), -1, "", anything); !errors.Is(err, errStep) {
			t.Error(err)
		}
		w.Clock.Advance(2 * time.Hour)
		w.collect()
		w.wantFiles("K00001")
		w.Clock.Advance(24 * time.Hour)
		w.collect()
		w.wantFiles()
		w.wantNoGarbage()
	})
}

// TestUploadBreaksOff: a body that ends early leaves nothing, immediately.
func TestUploadBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := errors.New("client has gone")
	for _, n := range []int64{0, 1, 100_000} {
		body := io.MultiReader(io.LimitReader(endless{}, n), iotest.ErrReader(gone))
		if b, err := w.Upload(t.Context(), w.account.ID, body, -1, "", anything); !errors.Is(err, gone) {
			t.Errorf("after %d bytes: %+v, %v", n, b, err)
		}
		w.wantFiles()
		w.wantNoGarbage()
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

// TestKilled: the process ends at each step of an upload and of a collection. An
// acknowledged upload is there after a restart, nothing else stays.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, last := range []string{
		"write", "intend", "after intend", "commit", "after commit", "add", "after add",
		"collect", "after collect", "after garbage", "remove", "after remove", "forget", "after forget",
	} {
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			kept, dropped := w.upload("kept"), w.upload("dropped")
			w.mustWrite("1", kept.CID)
			w.mustWrite("2", dropped.CID)
			w.mustWrite("2")
			w.Clock.Advance(90 * time.Minute)
			killed := false
			w.steps = func(step string) error {
				if killed = killed || step == last; killed {
					return errStep // and at every step from here on
				}
				return nil
			}
			_, uploadErr := w.Upload(t.Context(), w.account.ID, strings.NewReader("third"), -1, "", anything)
			collectErr := w.Collect(t.Context())
			if !killed || uploadErr == nil && collectErr == nil {
				t.Fatalf("%v, %v", uploadErr, collectErr)
			}
			w.restart()
			if uploadErr == nil {
				w.mustWrite("3", cidOf("third"))
			}
			w.Clock.Advance(25 * time.Hour)
			w.collect()
			w.wantRead("kept")
			w.wantGone("dropped")
			if uploadErr == nil {
				w.wantRead("third")
				w.wantFiles(kept.Key, "K00003")
			} else {
				w.wantFiles(kept.Key)
			}
			w.wantNoGarbage()
		})
	}
}

// TestLostFile: a blob whose file is missing is a fault, not an empty answer or
// an endless search, and comes back with the next upload of it.
func TestLostFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.upload("hello")
	w.mustWrite("1", b.CID)
	if err := w.Files.Remove(t.Context(), b.Key); err != nil {
		t.Fatal(err)
	}
	if got, err := w.read(b.CID); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("%q, %v", got, err)
	}
	w.upload("hello")
	w.wantRead("hello")
}

// TestStubbornFile: a file that cannot be removed does not keep others from being
// removed, and is tried again.
func TestStubbornFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, content := range []string{"one", "two", "three"} {
		w.upload(content)
	}
	w.Clock.Advance(25 * time.Hour)
	n := 0
	w.steps = func(step string) error {
		if step == "remove" {
			if n++; n == 1 {
				return errStep
			}
		}
		return nil
	}
	if err := w.Collect(t.Context()); !errors.Is(err, errStep) {
		t.Error(err)
	}
	w.wantFiles("K00001")
	w.collect()
	w.wantFiles()
	w.wantNoGarbage()
}

// lines receives a log, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestRun: Run collects as soon as the server starts, logs a failure, goes on, and
// ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := make(lines)
	w.Log = slog.New(slog.NewTextHandler(log, nil))
	w.steps = func(string) error { return errStep }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	if line := <-log; !strings.Contains(line, "collecting blobs failed") || !strings.Contains(line, errStep.Error()) {
		t.Errorf("log: %s", line)
	}
	select {
	case <-done:
		t.Error("ended with the first failure")
	default:
	}
	cancel()
	<-done
}

// TestCollectClock: while the clock cannot be trusted no blob is collected.
func TestCollectClock(t *testing.T) {
	w := newWorld(t)
	doubt := errors.New("the clock is ahead")
	w.Doubt = func() error { return doubt }
	w.upload("unused")
	w.Clock.Advance(10000 * time.Hour)
	w.collect()
	w.wantFiles("K00001")
	doubt = nil
	w.Clock.Advance(10000 * time.Hour)
	w.collect()
	w.wantFiles()
}
