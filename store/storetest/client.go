package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"nestbox/oauth/client"
)

var clientTests = tests{
	"Clients":           testClients,
	"ClientRemovedKeys": testClientRemovedKeys,
	"ClientsForgotten":  testClientsForgotten,
}

func keptClient(id string, fetched time.Time) client.Kept {
	return client.Kept{ID: id, Document: []byte(`{"client_id":"` + id + `"}`), Fetched: fetched, Fresh: fetched.Add(time.Hour)}
}

func testClients(t *testing.T, s *Database) {
	const id = "https://app.example.com/client.json"
	if _, err := s.Clients.Client(t.Context(), id); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	is := func(what string, want client.Kept) {
		t.Helper()
		if got, err := s.Clients.Client(t.Context(), want.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}
	k := keptClient(id, at(1))
	keep := func(k client.Kept) {
		t.Helper()
		if err := s.Clients.Keep(t.Context(), k, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	keep(k)
	is("fetched", k)
	k.KeySet, k.Failed, k.Error = []byte("{}"), at(2), "status 500"
	keep(k)
	keep(keptClient("https://other.example.com/client.json", at(3)))
	is("failed", k)
	s.Reopen()
	is("after a restart", k)
	k = client.Kept{ID: id, Failed: at(4), Error: "timed out"}
	keep(k)
	is("without a document", k)
}

func testClientRemovedKeys(t *testing.T, s *Database) {
	const a, b = "https://a.example.com/client.json", "https://b.example.com/client.json"
	removed := func(before time.Time, after client.RemovedKey, limit int, want ...string) {
		t.Helper()
		list, err := s.Clients.Removed(t.Context(), before, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range list {
			got = append(got, fmt.Sprintf("%s %s %d", k.ClientID[8:9], k.Thumbprint, int(k.Since.Sub(start)/time.Minute)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := s.Clients.Remove(t.Context(), client.RemovedKey{ClientID: a, Thumbprint: "1", Since: at(1)}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a key of an unknown client: %v", err)
	}
	keep := func(k client.Kept, present, gone []string) {
		t.Helper()
		if err := s.Clients.Keep(t.Context(), k, present, gone); err != nil {
			t.Fatal(err)
		}
	}
	keep(keptClient(a, at(1)), []string{"1", "2"}, nil)
	keep(keptClient(b, at(1)), nil, []string{"9"})
	keep(keptClient(a, at(5)), []string{"1"}, []string{"2"})
	keep(keptClient(a, at(7)), []string{"1"}, []string{"2"})
	removed(at(60), client.RemovedKey{}, 10, "a 2 5", "b 9 1")
	removed(at(5), client.RemovedKey{}, 10, "b 9 1")
	removed(at(60), client.RemovedKey{}, 1, "a 2 5")
	removed(at(60), client.RemovedKey{ClientID: a, Thumbprint: "2"}, 1, "b 9 1")
	for _, minute := range []int{8, 9} {
		since, err := s.Clients.Remove(t.Context(), client.RemovedKey{ClientID: a, Thumbprint: "3", Since: at(minute)})
		if err != nil || !since.Equal(at(8)) {
			t.Errorf("noted at %d: since %v, %v", minute, since, err)
		}
	}
	removed(at(60), client.RemovedKey{}, 10, "a 2 5", "a 3 8", "b 9 1")
	keep(keptClient(a, at(10)), []string{"2", "3"}, []string{"1"}) // they are back
	removed(at(60), client.RemovedKey{}, 10, "a 1 10", "b 9 1")
}

func testClientsForgotten(t *testing.T, s *Database) {
	for i := range 6 {
		k := keptClient(fmt.Sprintf("https://%d.example.com/client.json", i), at(i))
		if i == 0 {
			k.Failed, k.Error = at(20), "status 500" // it was tried later
		}
		if err := s.Clients.Keep(t.Context(), k, nil, []string{"key"}); err != nil {
			t.Fatal(err)
		}
	}
	forget := func(before time.Time, keep, limit, want int, left ...int) {
		t.Helper()
		if n, err := s.Clients.Forget(t.Context(), before, keep, limit); err != nil || n != want {
			t.Errorf("forgot %d, %v, want %d", n, err, want)
		}
		for i := range 6 {
			_, err := s.Clients.Client(t.Context(), fmt.Sprintf("https://%d.example.com/client.json", i))
			if (err == nil) != slices.Contains(left, i) {
				t.Errorf("client %d: %v, left should be %v", i, err, left)
			}
		}
		keys, err := s.Clients.Removed(t.Context(), at(100), client.RemovedKey{}, 10)
		if err != nil || len(keys) != len(left) {
			t.Errorf("keys: %v, %v", keys, err)
		}
	}
	forget(at(1), 100, 10, 0, 0, 1, 2, 3, 4, 5)
	forget(at(4), 100, 2, 2, 0, 3, 4, 5)
	forget(at(4), 100, 2, 1, 0, 4, 5)
	forget(at(0), 2, 10, 1, 0, 5)
	forget(at(0), 2, 10, 0, 0, 5)
}
