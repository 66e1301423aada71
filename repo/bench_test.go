package repo_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"nestbox/repo"
)

// BenchmarkCreateRecord makes a post and waits until it is on disk: one account
// that waits for each, and sixteen beside each other.
func BenchmarkCreateRecord(b *testing.B) {
	for _, accounts := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d accounts", accounts), func(b *testing.B) {
			w := newWorld(b)
			var people []*person
			for i := range accounts {
				people = append(people, w.person(fmt.Sprintf("p%d", i)))
			}
			record := []byte(postOf("Nothing to see here, move along."))
			var next atomic.Int64
			b.SetParallelism(accounts)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				p := people[int(next.Add(1))%accounts]
				for pb.Next() {
					if _, err := w.CreateRecord(b.Context(), p.caller, repo.CreateRecordInput{Repo: p.did.String(), Collection: post, Record: record}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkGetRecord reads a post of a repository of a thousand.
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
