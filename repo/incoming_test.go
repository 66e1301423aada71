package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// TestUploadPace: a client's file may take as long as it goes on at the pace, and
// what the server does in between does not count.
func TestUploadPace(t *testing.T) {
	for name, c := range map[string]struct {
		part        int // bytes, each after wait
		wait, pause time.Duration
		operator    bool
		want        error
	}{
		"at the pace":     {uploadPace, time.Second, 0, false, nil},
		"a little slower": {uploadPace, 2 * time.Second, 0, false, errSlowUpload},
		"a byte a minute": {1, time.Minute, 0, false, errSlowUpload},
		"fast":            {uploadPace, time.Millisecond, 0, false, nil},
		"a busy server":   {uploadPace, time.Second, time.Minute, false, nil},
		"an operator":     {uploadPace, time.Hour, 0, true, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := &upload{limit: 1 << 30, now: time.Now, shared: &imports{}}
			if c.operator {
				u.now, u.shared = nil, nil
			}
			u.r = readFunc(func(b []byte) (int, error) {
				<-time.After(c.wait)
				return min(len(b), c.part), nil
			})
			var err error
			for range 1000 {
				if _, err = u.Read(make([]byte, uploadPace)); err != nil {
					break
				}
				<-time.After(c.pause)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v after %d bytes", name, err, u.size)
			}
		})
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// TestUploadRoom: the files of all clients share a part of the disk, which is
// given back, whatever came of them.
func TestUploadRoom(t *testing.T) {
	var all imports
	file := func(n int) *upload {
		return &upload{r: bytes.NewReader(make([]byte, n)), limit: 1000, now: time.Now, shared: &all}
	}
	var held [uploadsAtOnce]*upload
	for i := range held {
		held[i] = file(1000)
		if _, err := io.Copy(io.Discard, held[i]); err != nil {
			t.Error(err)
		}
	}
	late := file(1)
	_, err := io.Copy(io.Discard, late)
	if !errors.Is(err, errSpoolFull) {
		t.Errorf("more than there is room for: %v", err)
	}
	late.release()
	for _, h := range held {
		h.release()
	}
	half := file(600)
	half.free = func() (int64, error) { return 1000, nil }
	if _, err := io.Copy(io.Discard, half); !errors.Is(err, errSpoolFull) {
		t.Errorf("more than half of what is free: %v", err)
	}
	half.release()
	large := file(1001)
	if _, err := io.Copy(io.Discard, large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte too many: %v", err)
	}
	large.release()
	broken := file(500)
	broken.r = iotest.TimeoutReader(iotest.OneByteReader(broken.r))
	if _, err := io.Copy(io.Discard, broken); err == nil {
		t.Error("a broken one succeeded")
	}
	broken.release()
	if all.spooled != 0 {
		t.Errorf("%d bytes are taken by nobody", all.spooled)
	}
}

// TestReceiveFull: a disk that is full is no fault of the client's.
func TestReceiveFull(t *testing.T) {
	s := &Service{Transfers: Transfers{TempDir: t.TempDir() + "/none"}}
	if _, err := s.receive(t.Context(), &upload{r: bytes.NewReader(nil), limit: 10}); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrImport) {
		t.Errorf("no folder: %v", err)
	}
}

// TestImportTurn: so many imports are verified at once; others wait, for a time.
func TestImportTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all imports
		var gives []func()
		for range maxImports {
			give, err := all.turn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			gives = append(gives, give)
		}
		began := time.Now()
		if _, err := all.turn(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != importPatience {
			t.Errorf("one more: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := all.turn(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: %v", err)
		}
		go func() {
			<-time.After(time.Minute)
			gives[0]()
		}()
		if _, err := all.turn(t.Context()); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}
