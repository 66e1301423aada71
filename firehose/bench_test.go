package firehose

import (
	"bufio"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/auth"
	"nestbox/request"
	"nestbox/xrpc"
)

// benchFollow names the server whose stream a process of this test binary follows:
// the benchmark must not count its readers' CPU time.
const benchFollow = "NESTBOX_BENCH_FOLLOW"

// TestFollow is the other process of BenchmarkSubscribers: it connects a given number
// of times, reports that, and counts events until its input ends.
func TestFollow(t *testing.T) {
	url, count, ok := strings.Cut(os.Getenv(benchFollow), " ")
	if !ok {
		return
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int64, 1000)
	for range n {
		conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		go func() {
			for {
				_, r, err := conn.NextReader()
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					return
				}
				got <- 1
			}
		}()
	}
	fmt.Println("connected")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { // how many events to wait for, in all
		want, err := strconv.Atoi(in.Text())
		if err != nil {
			t.Fatal(err)
		}
		for range want {
			<-got
		}
		fmt.Println("done")
	}
	os.Exit(0) // the connections need no care
}

// BenchmarkSubscribers sends events of 5 KB, 50 a second, to 1,000 subscribers in
// another process, and reports this process's CPU time for each event and subscriber.
func BenchmarkSubscribers(b *testing.B) {
	const subscribers, rate = 1000, 50
	s := DefaultSettings()
	s.PerNetwork = subscribers
	h, log := newIdleHub(b, s)
	front := &request.Front{Log: h.opts.Logger, Now: time.Now}
	server := httptest.NewServer(front.Handler(&xrpc.Server{
		Methods: map[string]xrpc.Method{"com.atproto.sync.subscribeRepos": xrpc.Stream((&auth.Verifier{}).Anyone, h.Subscribe)},
	}))
	defer server.Close()
	defer h.Close()
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestFollow$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=ws%s/xrpc/com.atproto.sync.subscribeRepos %d", benchFollow, strings.TrimPrefix(server.URL, "http"), subscribers))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	out := bufio.NewScanner(stdout)
	await := func(line string) {
		b.Helper()
		for out.Scan() {
			if out.Text() == line {
				return
			}
		}
		b.Fatalf("no %q: %v", line, out.Err())
	}
	await("connected")
	seq := int64(0)
	b.ResetTimer()
	before := cpuTime(b)
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		seq++
		log.tell(sized(seq, 5000))
	}
	if _, err := fmt.Fprintln(stdin, seq*subscribers); err != nil {
		b.Fatal(err)
	}
	await("done")
	b.ReportMetric(float64(cpuTime(b)-before)/float64(seq*subscribers)/1000, "µs/event/subscriber")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
