package repo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/repo"
	"nestbox/repo/car"
)

// BenchmarkNewer asks what is new in a repository of 100,000 posts: nothing, which needs
// no query, and one.
func BenchmarkNewer(b *testing.B) {
	w := newWorld(b)
	alice := newMover(b, w)
	records := make(map[string]car.Block, 100_000)
	for i := range 100_000 {
		key := fmt.Sprintf("%s/%s", post, syntax.NewTID(int64(i)*1_000_003+1_700_000_000_000_000, 1))
		records[key] = block(map[string]any{"$type": post, "text": fmt.Sprintf("post %d", i), "createdAt": "2026-08-01T12:00:00.000Z"})
	}
	alice.mustImport(alice.file(b, records).bytes())
	was := alice.head().Rev
	w.clock.Advance(time.Second)
	alice.mustCreate(post, nil, postOf("new"))
	for _, c := range []struct {
		name  string
		since syntax.TID
		want  int
	}{{"nothing new", alice.head().Rev, 0}, {"one new", was, 1}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var n repo.News
			for b.Loop() {
				n = alice.newer(c.since)
			}
			if len(n.Posts) != c.want {
				b.Errorf("%d are new, want %d", len(n.Posts), c.want)
			}
		})
	}
}
