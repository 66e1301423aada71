package admin_test

import (
	"slices"
	"testing"
	"time"

	"nestbox/admin"
)

// TestGrowth: one size a day is kept, for a month; growth is known after a day, and a clock
// that was wrong leaves nothing behind.
func TestGrowth(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	size := func(hours int) admin.Size {
		return admin.Size{At: day.Add(time.Duration(hours) * time.Hour), Database: 1000 + int64(hours)*10, Blobs: int64(hours)}
	}
	database := func(s admin.Size) int64 { return s.Database }
	var past []admin.Size
	for hour := 0; hour < 24; hour += 6 {
		past = admin.WithSize(past, size(hour))
	}
	if len(past) != 1 {
		t.Fatalf("%d sizes of one day", len(past))
	}
	if _, since := admin.Growth(past, size(23), database); !since.IsZero() {
		t.Error("growth is known after 23 hours")
	}
	if perDay, since := admin.Growth(past, size(36), database); perDay != 240 || !since.Equal(day) {
		t.Errorf("%d bytes a day since %v", perDay, since)
	}
	past = admin.WithSize(past, size(24*1000)) // the clock is ahead
	if past = admin.WithSize(past, size(24)); len(past) != 2 || past[1] != size(24) {
		t.Errorf("%v", past)
	}
	for n := range 100 {
		past = admin.WithSize(past, size(24*n))
	}
	if len(past) != 30 || past[29] != size(24*99) {
		t.Errorf("%d sizes, the last %v", len(past), past[len(past)-1])
	}
	got := admin.ParseSizes(append([]byte("nonsense\n1 2\n"), admin.FormatSizes(past)...))
	if !slices.Equal(got, past) {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		disk admin.Disk
		days int64
		ends bool
	}{
		{admin.Disk{Free: 1000}, 0, false},
		{admin.Disk{Free: 1000, Growth: 99, Since: day}, 10, true},
		{admin.Disk{Free: 1000, Growth: 0, Since: day}, 0, false},
		{admin.Disk{Free: 1000, Growth: -5, Since: day}, 0, false},
	} {
		if days, ends := c.disk.DaysLeft(); days != c.days || ends != c.ends {
			t.Errorf("%+v: %d days, %v", c.disk, days, ends)
		}
	}
}
