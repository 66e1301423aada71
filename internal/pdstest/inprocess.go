package pdstest

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"nestbox/config"
	"nestbox/server"
)

// InProcess is a server in the test's own process.
type InProcess struct {
	*server.Server
	Client

	stop    context.CancelFunc
	stopped sync.Once
	ended   chan error
	t       testing.TB
}

// Options of Start; the zero value is usable.
type Options struct {
	// Dir is the data directory; a temporary one if empty.
	Dir string
	// Settings are NAME=value pairs as in the environment.
	Settings []string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Timeouts of the HTTP server; the real ones if zero.
	Timeouts server.Timeouts
	// Around stands around the server.
	Around *server.Around
	// Log receives the server's log; nil discards it.
	Log *slog.Logger
}

// Start runs a development server until Stop, or the end of the test.
func Start(tb testing.TB, o Options) *InProcess {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, _, err := config.Load(config.Flags{Listen: "127.0.0.1:0", Data: o.Dir, Dev: true}, o.Settings)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	srv, err := server.Open(ctx, server.Options{
		Config: c, Version: "test", Log: o.Log, Now: o.Now, Listen: true, Timeouts: o.Timeouts, Around: o.Around,
		Fatal: func(err error) { tb.Errorf("the outcome of a commit is unknown: %v", err) },
	})
	if err != nil {
		stop()
		tb.Fatal(err)
	}
	s := &InProcess{Server: srv, Client: Client{Base: srv.URL}, stop: stop, ended: make(chan error, 1), t: tb}
	ready := newSignal("READY ")
	go func() { s.ended <- srv.Serve(ctx, ready) }()
	select {
	case <-ready.seen:
	case err := <-s.ended:
		tb.Fatalf("server ended before it was ready: %v", err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Stop stops the server and verifies its data directory. A second call does
// nothing.
func (s *InProcess) Stop() {
	s.t.Helper()
	s.stopped.Do(func() {
		s.stop()
		if err := <-s.ended; err != nil {
			s.t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			s.t.Errorf("close: %v", err)
		}
		Verify(s.t, s.DataDir)
	})
}

// TempDir is t.TempDir for a data directory that a killed process may still be
// writing to: its removal is not part of the test.
func TempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "nestbox-test-") //nolint:usetesting // its removal would fail the test
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
