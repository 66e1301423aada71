package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/internal/costtest"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/request"
)

// TestUploadPace: a client's file may come as long as it keeps the pace, and the
// server's own work in between does not count.
func TestUploadPace(t *testing.T) {
	for name, c := range map[string]struct {
		part        int // bytes, each after wait
		wait, pause time.Duration
		operator    bool
		want        error
	}{
		"at the pace":     {uploadPace, time.Second, 0, false, nil},
		"a little slower": {uploadPace, 2 * time.Second, 0, false, ErrSlow},
		"a byte a minute": {1, time.Minute, 0, false, ErrSlow},
		"fast":            {uploadPace, time.Millisecond, 0, false, nil},
		"a busy server":   {uploadPace, time.Second, time.Minute, false, nil},
		"an operator":     {uploadPace, time.Hour, 0, true, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := &upload{limit: 1 << 30, all: uploadsAtOnce << 30, now: time.Now, shared: &imports{}}
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
// given back, whatever their outcome.
func TestUploadRoom(t *testing.T) {
	var all imports
	file := func(n int) *upload {
		return &upload{r: bytes.NewReader(make([]byte, n)), limit: 1000, all: 1000 * uploadsAtOnce, now: time.Now, shared: &all}
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

// TestUploadCrowded: four files that come slowly do not hold the share of the disk:
// one of them gives way as soon as another client needs the space. Fast files, and
// complete ones, stay.
func TestUploadCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 30
		var all imports
		file := func(pace int) *upload {
			u := &upload{limit: limit, all: uploadsAtOnce * limit, now: time.Now, shared: &all}
			u.r = readFunc(func(b []byte) (int, error) {
				<-time.After(time.Second)
				return min(len(b), pace), nil
			})
			return u
		}
		buf := make([]byte, 4<<20)
		read := func(u *upload, seconds int) (err error) {
			for range seconds {
				if _, err = u.Read(buf); err != nil {
					return err
				}
			}
			return nil
		}
		var held [uploadsAtOnce]*upload
		for i := range held {
			held[i] = file(uploadPace)
			if i == 0 {
				held[i] = file(2 * crowdedPace)
			}
			if err := read(held[i], 300); err != nil {
				t.Fatal(err)
			}
			// Most of the share is taken, as it would be hours later.
			all.spooled += limit - held[i].taken
			held[i].taken, held[i].size = limit, limit-(1<<20)
		}
		late := file(len(buf))
		if err := read(late, 10); err != nil {
			t.Fatalf("a fast one: %v", err)
		}
		cut := 0
		for i, u := range held {
			err := read(u, 1)
			if errors.Is(err, errCrowded) {
				cut++
			}
			if i == 0 && errors.Is(err, errCrowded) {
				t.Error("the fast one of the first four gave way")
			}
		}
		if cut != 1 {
			t.Errorf("%d of the slow ones gave way, want 1", cut)
		}
		late.release()
		for _, u := range held {
			u.release()
		}
		if all.spooled != 0 || len(all.uploads) != 0 {
			t.Errorf("%d bytes are taken by nobody, %d uploads are known", all.spooled, len(all.uploads))
		}
	})
}

// TestReceiveFull: a full disk is not the client's fault.
func TestReceiveFull(t *testing.T) {
	s := &Service{Transfers: Transfers{TempDir: t.TempDir() + "/none"}}
	if _, err := s.receive(t.Context(), &upload{r: bytes.NewReader(nil), limit: 10}); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrImport) {
		t.Errorf("no folder: %v", err)
	}
}

// TestImportTurn: the number of imports verified at once is limited; others wait, for
// a time.
func TestImportTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all imports
		var gives []func()
		for range maxImports {
			give, err := all.turn(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			gives = append(gives, give)
		}
		began := time.Now()
		if _, err := all.turn(t.Context(), ""); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != importPatience {
			t.Errorf("one more: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := all.turn(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: %v", err)
		}
		go func() {
			<-time.After(time.Minute)
			gives[0]()
		}()
		if _, err := all.turn(t.Context(), ""); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}

// TestImportQueue: a network has one slot at a time and gets its next turn after
// networks that waited longer, however many imports it sends.
func TestImportQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all imports
		var order []string
		var mu sync.Mutex
		enter := func(network string) {
			go func() {
				give, err := all.turn(t.Context(), network)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, network)
				mu.Unlock()
				<-time.After(20 * time.Second)
				give()
			}()
			synctest.Wait()
		}
		for range 5 {
			enter("a")
		}
		for range 5 {
			enter("b")
		}
		enter("c")
		enter("")
		seen := 0
		for _, want := range []string{"a b", " c", "a b", "a b"} {
			mu.Lock()
			turn := slices.Sorted(slices.Values(order[seen:]))
			seen = len(order)
			mu.Unlock()
			if got := strings.Join(turn, " "); got != want {
				t.Errorf("a turn of %q, want %q", got, want)
			}
			<-time.After(20 * time.Second)
			synctest.Wait()
		}
		<-time.After(time.Hour)
		synctest.Wait()
		if len(order) != 12 || all.turns.Held() != 0 || all.turns.Waiting() != 0 {
			t.Errorf("%d of 12 had their turn; %d hold a place, %d wait", len(order), all.turns.Held(), all.turns.Waiting())
		}
	})
}

// TestQueueNetwork: the networks of one customer count together.
func TestQueueNetwork(t *testing.T) {
	of := func(addr string) string { return queueNetwork(request.Client{Addr: netip.MustParseAddr(addr)}) }
	if of("2001:db8:1:1::1") != of("2001:db8:1:ffff::2") || of("2001:db8:1::1") == of("2001:db8:2::1") {
		t.Error("a /48 is not one network")
	}
	if of("192.0.2.1") == of("192.0.2.2") || of("192.0.2.1") == "" {
		t.Error("an IPv4 address is not one network")
	}
	if got := queueNetwork(request.Client{Addr: netip.MustParseAddr("192.0.2.1"), Unlimited: true}); got != "" {
		t.Errorf("a client without limits counts for %q", got)
	}
}

// TestImportCost: the cost of reading a file and walking its tree follows the file's
// size, whatever it repeats or shares.
func TestImportCost(t *testing.T) {
	record := []byte{0xa1, 0x61, 'x', 0x01}
	id := dagcbor.CID(record)
	for name, c := range map[string]func(dst []byte, n int) []byte{
		"a block again and again": func(dst []byte, n int) []byte {
			for range 10 * n {
				dst = car.AppendBlock(dst, id, record)
			}
			return dst
		},
		"a block for each key": func(dst []byte, n int) []byte {
			dst = car.AppendBlock(dst, id, record)
			for i := range n {
				other, err := dagcbor.Encode(map[string]any{"n": int64(i)})
				if err != nil {
					t.Fatal(err)
				}
				dst = car.AppendBlock(dst, dagcbor.CID(other), other)
			}
			return dst
		},
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 4000, func(n int) func() {
				var nodes []byte
				b := mst.Builder{Emit: func(c mst.Changed) error {
					nodes = car.AppendBlock(nodes, c.CID, c.Block)
					return nil
				}}
				for i := range n {
					if err := b.Add(fmt.Sprintf("com.example.note/%06d", i), id); err != nil {
						t.Fatal(err)
					}
				}
				root, err := b.Finish()
				if err != nil {
					t.Fatal(err)
				}
				f, err := tempFile(t.TempDir(), "import")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = f.Close() })
				raw := c(append(car.AppendHeader(nil, root.CID), nodes...), n)
				if _, err := f.Write(raw); err != nil {
					t.Fatal(err)
				}
				return func() {
					in := &incoming{file: f, size: int64(len(raw))}
					err := in.read(t.Context())
					records := 0
					if err == nil {
						err = in.walk(root.CID, func(_ string, id cid.Cid) error {
							records++
							_, err := in.block(id)
							return err
						})
					}
					if err != nil || records != n {
						t.Fatalf("%d records of %d, %v", records, n, err)
					}
				}
			})
		})
	}
}
