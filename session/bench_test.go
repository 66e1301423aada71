package session_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"nestbox/auth"
)

// benchSessions returns the first refresh tokens of n sessions.
func benchSessions(b *testing.B, n int) (*world, []auth.Token) {
	b.Helper()
	w := newWorld(b, b.TempDir())
	tokens := make([]auth.Token, n)
	for i := range tokens {
		tokens[i] = w.token(w.mustBegin(w.account("a"+strconv.Itoa(i), "none"), "").Refresh)
	}
	return w, tokens
}

// share runs b.N calls of fn by workers; fn gets the worker's number and the number
// of its call.
func share(b *testing.B, workers int, fn func(worker, call int) error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var done atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for call := 0; done.Add(1) <= int64(b.N); call++ {
				if err := fn(worker, call); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkRefresh measures a refresh through the service, on disk before it is
// answered. Each worker has a session of its own; many share commits.
func BenchmarkRefresh(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			w, tokens := benchSessions(b, workers)
			share(b, workers, func(worker, call int) error {
				token := tokens[worker]
				token.JTI = token.SID + "." + strconv.Itoa(call)
				_, err := w.Refresh(b.Context(), token)
				return err
			})
		})
	}
}

// BenchmarkReplay shows one superseded token again and again: nothing is
// written.
func BenchmarkReplay(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			w, tokens := benchSessions(b, 1)
			if _, err := w.Refresh(b.Context(), tokens[0]); err != nil {
				b.Fatal(err)
			}
			share(b, workers, func(int, int) error {
				_, err := w.Refresh(b.Context(), tokens[0])
				return err
			})
		})
	}
}

// BenchmarkStanding measures what a call with an access token asks of the sessions.
func BenchmarkStanding(b *testing.B) {
	w, tokens := benchSessions(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if st, err := w.Standing(b.Context(), tokens[0]); err != nil || !st.Live {
			b.Fatal(st, err)
		}
	}
}
