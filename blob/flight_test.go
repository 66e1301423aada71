package blob_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nestbox/auth"
	"nestbox/blob"
	"nestbox/internal/pdstest"
	"nestbox/xrpc"
)

// TestQuotaAtOnce: an upload that cannot fit is refused before it is written, by
// its length or by the part that goes over; a blob that is there already may be
// uploaded again.
func TestQuotaAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Quota = 100_000
	w.upload(strings.Repeat("x", 60_000))
	created, written := 0, 0
	w.steps = func(step string) error {
		switch step {
		case "create":
			created++
		case "write":
			written++
		}
		return nil
	}
	if _, err := w.Upload(t.Context(), w.account.ID, endless{}, 60_001, "", anything); !errors.Is(err, blob.ErrQuota) || created > 0 {
		t.Errorf("announced: %v, %d files created", err, created)
	}
	if _, err := w.Upload(t.Context(), w.account.ID, endless{}, -1, "", anything); !errors.Is(err, blob.ErrQuota) || written > 1 {
		t.Errorf("without an end: %v, %d parts written", err, written)
	}
	if _, err := w.Upload(t.Context(), w.account.ID, endless{}, 1<<20+1, "", anything); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("larger than any may be: %v", err)
	}
	w.steps = nil
	w.upload(strings.Repeat("x", 60_000))
	w.upload(strings.Repeat("y", 40_000))
	if _, err := w.Upload(t.Context(), w.account.ID, strings.NewReader(strings.Repeat("z", 50_000)), 50_000, "", anything); !errors.Is(err, blob.ErrQuota) {
		t.Errorf("no larger than what is there, but new: %v", err)
	}
}

// TestRoomInFlight: uploads that are under way are counted as they arrive.
func TestRoomInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Accounts = accounts{account: w.account}
	w.MaxInFlight = 1_500_000
	caller := auth.NewScoped(auth.UploadCaller{Holder: auth.Holder{DID: w.account.DID}})
	upload := func(body io.Reader, length int64) error {
		_, err := w.UploadBlob(t.Context(), caller, xrpc.Upload{ContentType: "a/b", Length: length, Reader: body})
		return err
	}
	body, client := io.Pipe()
	ended := make(chan error)
	go func() { ended <- upload(body, 1_000_000) }()
	// The last write returns when all before it is counted, and the others below leave
	// room for its one byte.
	for _, part := range append(slices.Repeat([]int{64 << 10}, 10), 1, 1) {
		if _, err := client.Write(make([]byte, part)); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, upload(endless{}, 1_000_000), http.StatusServiceUnavailable, "ServiceUnavailable")
	wantError(t, upload(io.LimitReader(endless{}, 1_000_000), -1), http.StatusServiceUnavailable, "ServiceUnavailable")
	if err := upload(io.LimitReader(endless{}, 300_000), 300_000); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.MaxInFlight = 1 // one of the largest is always accepted
	if err := upload(io.LimitReader(endless{}, 1<<20), 1<<20); err != nil {
		t.Error(err)
	}
	wantError(t, upload(endless{}, 1<<20+1), http.StatusRequestEntityTooLarge, "PayloadTooLarge")
}

// TestAccountsPart: what one account sends at once does not use up the room of all
// others, nor the free space of the disk.
func TestAccountsPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.MaxInFlight = 9 << 20 // an eighth is more than an upload of 1 MiB
	part := int64(9<<20) / 8
	reads := 0
	hold := func(n int64) (end func()) {
		t.Helper()
		body, client := io.Pipe()
		ended := make(chan error)
		go func() {
			_, err := w.Upload(t.Context(), w.account.ID, body, -1, "a/b", anything)
			ended <- err
		}()
		for ; n > 0; n -= 32 << 10 {
			if _, err := client.Write(make([]byte, min(n, 32<<10))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.Write([]byte{1}); err != nil { // once it is read, the others are counted
			t.Fatal(err)
		}
		return func() {
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	end := hold(1_000_000)
	fits := part - 1_000_000 - 1000
	if _, err := w.Upload(t.Context(), w.account.ID, io.LimitReader(endless{}, fits+2000), -1, "", anything); !errors.Is(err, blob.ErrInFlight) {
		t.Errorf("more than its part: %v", err)
	}
	if _, err := w.Upload(t.Context(), w.account.ID, endless{}, fits+2000, "", anything); !errors.Is(err, blob.ErrInFlight) {
		t.Errorf("announced, more than its part: %v", err)
	}
	if _, err := w.Upload(t.Context(), w.account.ID, io.LimitReader(endless{}, fits), fits, "", anything); err != nil {
		t.Errorf("its part: %v", err)
	}
	end()
	w.Free = func() (int64, error) {
		reads++
		return 100_000, nil
	}
	if _, err := w.Upload(t.Context(), w.account.ID, io.LimitReader(endless{}, 200_000), -1, "", anything); !errors.Is(err, blob.ErrInFlight) || reads == 0 {
		t.Errorf("more than half of what is free: %v", err)
	}
	w.Free = func() (int64, error) { return 1 << 40, nil }
	if _, err := w.Upload(t.Context(), w.account.ID, io.LimitReader(endless{}, 200_000), -1, "", anything); err != nil {
		t.Errorf("room enough: %v", err)
	}
}

// TestUploadsAtOnce: an account may have 16 at once, whatever others have, and gets
// its places back.
func TestUploadsAtOnce(t *testing.T) {
	t.Parallel()
	log := make(lines, 1000)
	h := newHost(t, pdstest.Options{Log: slog.New(slog.NewJSONHandler(log, nil))})
	other := host{h.InProcess, h.SignUp(t, "bob")}
	begin := func(h host) net.Conn {
		conn := h.dial(t)
		h.say(t, conn, "POST /xrpc/com.atproto.repo.uploadBlob HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: image/png\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n", h.AccessJwt)
		return conn
	}
	var conns []net.Conn
	for range 16 {
		conn := begin(h)
		// The server asks it to go on once the service reads.
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatalf("%q, %v", line, err)
		}
		conns = append(conns, conn)
	}
	a := h.send(t, strings.NewReader("one more"), "text/plain")
	a.WantError(t, http.StatusTooManyRequests, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.Header.Get("Retry-After"); got != "30" {
		t.Errorf("Retry-After: %s", got)
	}
	other.put(t, strings.NewReader("another's"), "text/plain")
	if err := conns[0].Close(); err != nil {
		t.Fatal(err)
	}
	for line := range log {
		if strings.Contains(line, "uploadBlob") && strings.Contains(line, `"status":400`) {
			break
		}
	}
	h.put(t, strings.NewReader("one more"), "text/plain")
}

// anything allows uploads of every type.
func anything(string) error { return nil }
