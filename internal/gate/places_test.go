package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestPlacesAccounting compares Try and Leave with a list of what is held: never more
// than all places, never more than a share, a refusal only if one of them is full,
// and nothing kept in the end.
func TestPlacesAccounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Places[int]
		type held struct {
			place *Place[int]
			keys  []int
		}
		var model []held
		count := func(key int) (n int) {
			for _, h := range model {
				if slices.Contains(h.keys, key) {
					n++
				}
			}
			return n
		}
		room := Room{All: rapid.IntRange(1, 8).Draw(t, "all")}
		most := rapid.IntRange(1, 4).Draw(t, "most")
		t.Repeat(map[string]func(*rapid.T){
			"try": func(t *rapid.T) {
				key := rapid.IntRange(0, 5).Draw(t, "key")
				wide := 100 + key/3
				place, err := p.Try(room, Share[int]{Key: key, Most: most}, Share[int]{Key: wide, Most: 2 * most})
				var want error
				switch {
				case count(key) >= most || count(wide) >= 2*most:
					want = ErrShare
				case len(model) >= room.All:
					want = ErrFull
				}
				if !errors.Is(err, want) || (err == nil) != (want == nil) {
					t.Fatalf("key %d with %d of %d held: %v, want %v", key, len(model), room.All, err, want)
				}
				if err == nil {
					model = append(model, held{place, []int{key, wide}})
				}
			},
			"leave": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("nothing is held")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				model[i].place.Leave()
				model[i].place.Leave() // the second does nothing
				model = slices.Delete(model, i, i+1)
			},
			"": func(t *rapid.T) {
				if p.Held() != len(model) {
					t.Fatalf("%d are held, want %d", p.Held(), len(model))
				}
			},
		})
		for _, h := range model {
			h.place.Leave()
		}
		if p.Held() != 0 || len(p.of) != 0 {
			t.Fatalf("%d places and %d keys are kept", p.Held(), len(p.of))
		}
	})
}

// TestTakeWaits: a place that comes free goes to one that waits, once; one that stops
// waiting gets none; the queue has its bounds, in all and for a key.
func TestTakeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Places[string]
		room := Room{All: 1, Waiting: 3}
		share := func(key string) Share[string] { return Share[string]{Key: key, Waiting: 2} }
		first, err := p.Take(t.Context(), room, share("a"))
		if err != nil {
			t.Fatal(err)
		}
		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := p.Take(leaving, room, share("a"))
			left <- err
		}()
		synctest.Wait()
		got := make(chan *Place[string], 3)
		for _, key := range []string{"a", "b"} {
			go func() {
				place, err := p.Take(t.Context(), room, share(key))
				if err != nil {
					t.Error(err)
				}
				got <- place
			}()
			synctest.Wait()
		}
		if _, err := p.Take(t.Context(), Room{All: 1, Waiting: 100}, share("a")); !errors.Is(err, ErrShare) {
			t.Errorf("a third of one key: %v", err)
		}
		if _, err := p.Take(t.Context(), room, share("c")); !errors.Is(err, ErrFull) {
			t.Errorf("a fourth in all: %v", err)
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) || p.Waiting() != 2 {
			t.Errorf("one that left: %v, %d wait", err, p.Waiting())
		}
		if _, err := p.Take(leaving, room, share("c")); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		first.Leave()
		synctest.Wait()
		if len(got) != 1 || p.Held() != 1 {
			t.Fatalf("%d got the place, %d are held", len(got), p.Held())
		}
		(<-got).Leave()
		(<-got).Leave()
		if p.Held() != 0 || p.Waiting() != 0 || len(p.of) != 0 || len(p.waiting) != 0 {
			t.Errorf("kept: %d places, %v, %v", p.Held(), p.of, p.waiting)
		}
	})
}

// TestTakeIsFair: keys that ask for many places do not keep another one waiting for
// all of them, be they one or more than there are places, and nothing is kept of them.
func TestTakeIsFair(t *testing.T) {
	const most = 4 // two that are at work when it comes, and one beside it
	for _, greedy := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			var p Places[string]
			order := make(chan string, 500)
			work := func(key string) {
				place, err := p.Take(t.Context(), Room{All: 2}, Share[string]{Key: key}, Share[string]{Key: "around " + key})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				order <- key
				place.Leave()
			}
			for i := range 100 {
				go work(fmt.Sprint("greedy ", i%greedy))
			}
			time.Sleep(10500 * time.Millisecond) // they have had their turns
			before := len(order)
			go work("modest")
			time.Sleep(time.Hour)
			for range before {
				<-order
			}
			ended := 1
			for <-order != "modest" {
				ended++
			}
			if ended > most {
				t.Errorf("beside %d that are greedy it was the %d. to end, want at most the %d.", greedy, ended, most)
			}
			if p.Held() != 0 || len(p.of)+len(p.waiting)+len(p.last) != 0 {
				t.Errorf("kept: %v, %v, %v", p.of, p.waiting, p.last)
			}
		})
	}
}

// TestTakeWithinShare: a waiter whose key has its share does not hold up the others.
func TestTakeWithinShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Places[string]
		room := Room{All: 2}
		first, err := p.Take(t.Context(), room, Share[string]{Key: "a", Most: 1})
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan struct{})
		go func() {
			place, err := p.Take(t.Context(), room, Share[string]{Key: "a", Most: 1})
			if err != nil {
				t.Error(err)
				return
			}
			close(second)
			place.Leave()
		}()
		synctest.Wait()
		other, err := p.Take(t.Context(), room, Share[string]{Key: "b", Most: 1})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-second:
			t.Fatal("it has two places")
		default:
		}
		first.Leave()
		<-second
		other.Leave()
	})
}

// TestTakeInTurns: a place that was free at once counts as a turn of its key, so another
// key that waits goes before that key's second caller.
func TestTakeInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Places[string]
		first, err := p.Take(t.Context(), Room{All: 1}, Share[string]{Key: "a"})
		if err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 2)
		for _, key := range []string{"a", "b"} {
			go func() {
				place, err := p.Take(t.Context(), Room{All: 1}, Share[string]{Key: key})
				if err != nil {
					t.Error(err)
					return
				}
				order <- key
				place.Leave()
			}()
			synctest.Wait()
		}
		first.Leave()
		if next := <-order; next != "b" {
			t.Errorf("%s went first", next)
		}
		<-order
	})
}

// TestIdlePlaces: if all are taken, the place that has not moved for longest is
// taken over; its holder learns it, and when it ends it gives nothing back twice.
func TestIdlePlaces(t *testing.T) {
	var p Places[string]
	now := time.Unix(1000, 0)
	room := func() Room { return Room{All: 3, IdleSince: now.Add(-10 * time.Second)} }
	take := func(key string) (*Place[string], *int) {
		t.Helper()
		place, err := p.Try(room(), Share[string]{Key: key, Most: 3})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		revoked := new(int)
		place.Watch(now, func() {
			*revoked++
			place.Leave() // as its holder does in the end
		})
		return place, revoked
	}
	a, aGone := take("a")
	now = now.Add(time.Second)
	b, bGone := take("b")
	busy, err := p.Try(room()) // is not watched
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Try(room()); !errors.Is(err, ErrFull) {
		t.Fatalf("nobody is idle: %v", err)
	}
	now = now.Add(10 * time.Second)
	if !a.Move(now) {
		t.Fatal("it was lost")
	}
	if _, err := p.Try(Room{All: 3}); !errors.Is(err, ErrFull) {
		t.Fatalf("a room whose places are not taken over: %v", err)
	}
	c, _ := take("c")
	if *aGone != 0 || *bGone != 1 || !a.Move(now) || b.Move(now) || p.Held() != 3 {
		t.Errorf("revoked: %d and %d, %d held", *aGone, *bGone, p.Held())
	}
	if _, err := p.Try(room()); !errors.Is(err, ErrFull) {
		t.Errorf("all have moved: %v", err)
	}
	for _, place := range []*Place[string]{a, b, c, busy} {
		place.Leave()
	}
	if p.Held() != 0 || len(p.of) != 0 || len(p.watched) != 0 {
		t.Errorf("kept: %d, %v, %d", p.Held(), p.of, len(p.watched))
	}
}

// TestBudget: the taken bytes are those that were granted and not given back, and
// never more than the bound.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Budget
		var model int64
		most := rapid.Int64Range(0, 100).Draw(t, "most")
		disk := rapid.Int64Range(0, 300).Draw(t, "disk")
		for range 50 {
			n := rapid.Int64Range(0, 60).Draw(t, "n")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				if got, want := b.Take(n, most), model+n <= most; got != want {
					t.Fatalf("take %d at %d of %d: %t", n, model, most, got)
				} else if got {
					model += n
				}
			case 1:
				ok, err := b.TakeOfDisk(n, most, func() (int64, error) { return disk - model, nil })
				want := model+n <= most && model+n <= model/2+(disk-model)/2
				if err != nil || ok != want {
					t.Fatalf("take %d of a disk at %d of %d, disk %d: %t", n, model, most, disk, ok)
				}
				if ok {
					model += n
				}
			case 2:
				n = min(n, model)
				b.Give(n)
				model -= n
			}
			if b.Taken() != model || model > most {
				t.Fatalf("taken: %d, want %d of %d", b.Taken(), model, most)
			}
		}
	})
	var b Budget
	fault := errors.New("no disk")
	if ok, err := b.TakeOfDisk(1, 10, func() (int64, error) { return 0, fault }); ok || !errors.Is(err, fault) || b.Taken() != 0 {
		t.Errorf("a disk that cannot be asked: %t, %v", ok, err)
	}
}

// TestBudgets: no key takes more than its part, nor all together more than there is.
func TestBudgets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Budgets[int]
		model := map[int]int64{}
		var all int64
		each, most := rapid.Int64Range(0, 50).Draw(t, "each"), rapid.Int64Range(0, 100).Draw(t, "most")
		for range 50 {
			key := rapid.IntRange(0, 3).Draw(t, "key")
			n := rapid.Int64Range(0, 30).Draw(t, "n")
			if rapid.Bool().Draw(t, "give") {
				n = min(n, model[key])
				b.Give(key, n)
				model[key] -= n
				all -= n
				continue
			}
			left := min(each-model[key], most-all)
			if got := b.Left(key, each, most); got != left {
				t.Fatalf("left: %d, want %d", got, left)
			}
			if ok, err := b.TakeOfDisk(key, n, each, most, nil); err != nil || ok != (n <= left) {
				t.Fatalf("take %d of %d: %t, %v", n, left, ok, err)
			} else if ok {
				model[key] += n
				all += n
			}
		}
		for key, n := range model {
			b.Give(key, n)
		}
		if len(b.of) != 0 || b.all.Taken() != 0 {
			t.Fatalf("kept: %v", b.of)
		}
	})
}

// TestRegulars: a key that came is a regular ten minutes later if it comes again, for
// thirty days; a flood of others does not change that, nor take memory without end.
func TestRegulars(t *testing.T) {
	var r Regulars[string]
	now := time.Unix(0, 0)
	if r.Is("a", now) {
		t.Error("nobody came yet")
	}
	r.Came("a", now)
	now = now.Add(seasoned - 1)
	r.Came("a", now)
	if r.Is("a", now) {
		t.Error("it came just now")
	}
	now = now.Add(1)
	r.Came("a", now)
	if !r.Is("a", now) {
		t.Error("it came before")
	}
	for i := range 3 * maxRegulars {
		r.Came(fmt.Sprint(i), now)
	}
	if !r.Is("a", now) || len(r.newcomers) > maxRegulars {
		t.Errorf("after a flood: %t, %d newcomers", r.Is("a", now), len(r.newcomers))
	}
	now = now.Add(seasoned)
	for i := range 3 * maxRegulars {
		r.Came(fmt.Sprint(i), now)
	}
	if len(r.regulars) > maxRegulars {
		t.Errorf("%d regulars", len(r.regulars))
	}
	var quiet Regulars[string]
	quiet.Came("b", now)
	quiet.Came("b", now.Add(seasoned))
	if !quiet.Is("b", now.Add(rememberedFor)) || quiet.Is("b", now.Add(seasoned+rememberedFor)) {
		t.Error("a regular is remembered for thirty days")
	}
}
