package repo_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nestbox/repo"
)

// BenchmarkCreateRecord makes posts and waits until each is on disk: by one client,
// by sixteen clients of sixteen accounts, and by sixteen of one account.
func BenchmarkCreateRecord(b *testing.B) {
	for _, c := range []struct{ accounts, clients int }{{1, 1}, {16, 1}, {1, 16}} {
		b.Run(fmt.Sprintf("%d accounts, %d clients each", c.accounts, c.clients), func(b *testing.B) {
			w := newWorld(b)
			var people []*person
			for i := range c.accounts {
				p := w.person(fmt.Sprintf("p%d", i))
				people = append(people, slices.Repeat([]*person{p}, c.clients)...)
			}
			record := []byte(postOf("Nothing to see here, move along."))
			var made atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime(b)
			var all sync.WaitGroup
			for _, p := range people {
				all.Go(func() {
					for made.Add(1) <= int64(b.N) {
						if _, err := w.CreateRecord(b.Context(), p.caller, repo.CreateRecordInput{Repo: p.did.String(), Collection: post, Record: record}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime returns the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkGetRecord reads a post in a repository of a thousand.
func BenchmarkGetRecord(b *testing.B) {
	w := newWorld(b)
	alice := w.person("alice")
	for range 1000 / repo.MaxWrites {
		in := repo.ApplyWritesInput{Repo: alice.did.String()}
		for range repo.MaxWrites {
			in.Writes = append(in.Writes, step("create", post, "", postOf("Nothing to see here, move along.")))
		}
		if _, err := w.ApplyWrites(b.Context(), alice.caller, in); err != nil {
			b.Fatal(err)
		}
	}
	alice.mustCreate(post, new("3jui7kd54zh2y"), postOf("Nothing to see here, move along."))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alice.get(post, "3jui7kd54zh2y", nil); err != nil {
			b.Fatal(err)
		}
	}
}
