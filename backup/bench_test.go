package backup_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nestbox/blob"
	"nestbox/dagcbor"
)

var (
	benchRecords = flag.Int("records", 2000, "records of BenchmarkSnapshot; 330000 make a database of a gigabyte")
	benchBlobs   = flag.Int("blobs", 200, "blobs of BenchmarkSnapshot")
)

// addBlobs makes blobs as an upload does, but without waiting for the disk after each.
func (w *world) addBlobs(n int) {
	w.tb.Helper()
	var workers sync.WaitGroup
	for worker := range 32 {
		workers.Go(func() {
			for i := worker; i < n; i += 32 {
				content := []byte(noise(2000))
				key := fmt.Sprintf("B%c%cKEY%08d", 'A'+i%26, 'A'+i/26%26, i)
				path := filepath.Join(w.dir, "blobs", key[:2], key)
				err := os.MkdirAll(filepath.Dir(path), 0o700)
				if err == nil {
					err = os.WriteFile(path, content, 0o600)
				}
				if err == nil {
					err = w.db.Blobs.Intend(w.tb.Context(), key, w.now())
				}
				if err == nil {
					_, err = w.db.Blobs.Add(w.tb.Context(), w.who.ID, blob.Blob{
						CID: dagcbor.RawCID(sha256.Sum256(content)), Size: int64(len(content)), MimeType: "text/plain", Key: key, CreatedAt: w.now(),
					}, 0)
				}
				if err != nil {
					w.tb.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// writing makes a record each 5 ms until the function that it returns is called, which
// returns how long the writes took, at most and for 99 of 100.
func (w *world) writing(from int) (stop func() (p99, most time.Duration)) {
	ctx, cancel := context.WithCancel(w.tb.Context())
	var took []time.Duration
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := from; ctx.Err() == nil; n++ {
			<-tick.C
			began := time.Now()
			if err := w.write(context.WithoutCancel(ctx), "create", []int{n}, 300); err != nil {
				w.tb.Error(err)
				return
			}
			took = append(took, time.Since(began))
		}
	})
	return func() (p99, most time.Duration) {
		cancel()
		writer.Wait()
		slices.Sort(took)
		return took[len(took)*99/100], took[len(took)-1]
	}
}

// cpu returns how much processor time the process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peak returns by how much the heap grows at most until the function that it returns is
// called.
func peak() (stop func() int64) {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(context.Background())
	most := before.HeapInuse
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
			time.Sleep(50 * time.Millisecond)
		}
	})
	return func() int64 { cancel(); watch.Wait(); return int64(most - before.HeapInuse) }
}

// BenchmarkSnapshot makes a snapshot of a database and blobs, and another one after a
// hundredth of the records changed; then one while records are written:
//
//	go test ./backup -run - -bench Snapshot -benchtime 1x -records 330000 -blobs 100000
func BenchmarkSnapshot(b *testing.B) {
	w := newWorld(b)
	w.fill(0, *benchRecords, 2500)
	w.addBlobs(*benchBlobs)
	s := w.service(openFolder(b, b.TempDir()))
	for b.Loop() {
		report := func(name string, do func()) {
			began, used, heap := time.Now(), cpu(b), peak()
			do()
			grown := heap()
			b.ReportMetric(time.Since(began).Seconds(), name+"-s")
			b.ReportMetric((cpu(b) - used).Seconds(), name+"-cpu-s")
			b.ReportMetric(float64(grown)/(1<<20), name+"-heap-MB")
		}
		var first, second int64
		report("first", func() {
			m := snapshot(b, s)
			first = m.Sent
			b.ReportMetric(float64(m.Size())/(1<<20), "database-MB")
		})
		var keys []int
		for n := 0; n < *benchRecords; n += 100 {
			keys = append(keys, n+n/100%100)
		}
		for part := range slices.Chunk(keys, 200) {
			if err := w.write(b.Context(), "update", part, 2500); err != nil {
				b.Fatal(err)
			}
		}
		report("second", func() { second = snapshot(b, s).Sent })
		b.ReportMetric(float64(first)/(1<<20), "first-sent-MB")
		b.ReportMetric(100*float64(second)/float64(first), "second-sent-%")

		stop := w.writing(1_000_000)
		time.Sleep(5 * time.Second)
		p99, most := stop()
		b.ReportMetric(float64(p99.Microseconds())/1000, "p99-without-ms")
		b.ReportMetric(float64(most.Microseconds())/1000, "max-without-ms")
		if err := os.RemoveAll(s.State); err != nil {
			b.Fatal(err)
		}
		s = w.service(openFolder(b, b.TempDir()))
		stop = w.writing(2_000_000)
		snapshot(b, s)
		p99, most = stop()
		b.ReportMetric(float64(p99.Microseconds())/1000, "p99-during-ms")
		b.ReportMetric(float64(most.Microseconds())/1000, "max-during-ms")
	}
}
