package config_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/config"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for raw, want := range map[string]time.Duration{
		"90d": 90 * day, "2h": 2 * time.Hour, "15m": 15 * time.Minute, "1500ms": 1500 * time.Millisecond, "30s": 30 * time.Second, "2w": 14 * day,
		"1d12h": 36 * time.Hour, "1h1m1s1ms": time.Hour + time.Minute + time.Second + time.Millisecond, "0s": 0, "00010s": 10 * time.Second,
		"106751d": 106751 * day, "1m1m": 2 * time.Minute,
	} {
		if got, err := config.ParseDuration(raw); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", raw, got, err, want)
		}
	}
	for _, raw := range []string{
		"", "90", "d", "h2", "2 h", " 2h", "2h ", "-2h", "+2h", "1.5h", "2H", "1y", "1M", "2h30", "2hh", "1d,2h", "2µs", "5us", "5ns", "٢h",
		"106752d", "99999999999999999999h", "106751d24h", "9223372036854775807ms", "15251w1w",
	} {
		if got, err := config.ParseDuration(raw); err == nil || got != 0 || !strings.Contains(err.Error(), "like 90d, 2h, 15m or 1500ms") {
			t.Errorf("%q: %s, %v", raw, got, err)
		}
	}
}

// FuzzParseDuration: an accepted duration is never negative, and is the same when
// it is written in milliseconds.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"90d", "1d12h", "1500ms", "106751d23h", "1", "9223372036854ms775h", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		d, err := config.ParseDuration(raw)
		if err != nil {
			return
		}
		if again, err := config.ParseDuration(fmt.Sprintf("%dms", d.Milliseconds())); d < 0 || err != nil || again != d {
			t.Fatalf("%q: %s, then %s, %v", raw, d, again, err)
		}
	})
}

func TestParseEnvFile(t *testing.T) {
	text := strings.Join([]string{
		"# a comment",
		"",
		"A=1",
		"  B = two words  ",
		"export C=3",
		"D=\"quoted # not a comment\" # a comment",
		"E='it\"s'",
		"F=a#b # a comment",
		"G=",
		"H=\"\"",
		"I=a=b=c",
		"J='a' b",
		"K=\"open",
		"no setting",
		"L-1=x",
		"=x",
		"1A=x",
		"export",
		"M=1\r",
		"N=\"1\"\r",
		"\t# another",
		"A=again",
		"O=https://a.example/#part",
		"export   P='spaces'",
		"Q=last line",
	}, "\n")
	values, bad := config.ParseEnvFile(text)
	want := map[string]string{
		"A": "again", "B": "two words", "C": "3", "D": "quoted # not a comment", "E": `it"s`, "F": "a#b", "G": "", "H": "", "I": "a=b=c",
		"M": "1", "N": "1", "O": "https://a.example/#part", "P": "spaces", "Q": "last line",
	}
	if !maps.Equal(values, want) {
		t.Errorf("values\n%q, want\n%q", values, want)
	}
	if want := []int{12, 13, 14, 15, 16, 17, 18}; !slices.Equal(bad, want) {
		t.Errorf("bad lines %d, want %d", bad, want)
	}
	if values, bad := config.ParseEnvFile(""); len(values) != 0 || len(bad) != 0 {
		t.Errorf("an empty file: %q, %d", values, bad)
	}
}

// TestEnvFileFaults: a file that cannot be read, or that has bad lines, is a fault
// like any other, which repeats no line.
func TestEnvFileFaults(t *testing.T) {
	_, _, err := config.Load(config.Flags{EnvFile: "/no/such/file"}, nil)
	if got := faultsOf(t, err); !slices.Contains(got, "--env-file") || !slices.Contains(got, "PDS_HOSTNAME") {
		t.Errorf("no file: %v", err)
	}
	path := envFile(t, "PDS_JWT_SECRET=\"hunter2\nPDS_HOSTNAME=x\r\nhunter2\n")
	_, _, err = config.Load(config.Flags{EnvFile: path}, required()[1:])
	want := []string{path + ":1", path + ":3", "PDS_HOSTNAME"}
	if got := faultsOf(t, err); !slices.Equal(got, want) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("faults of %q, want %q: %v", got, want, err)
	}
}

// FuzzParseEnvFile: names are names, values have no line break, and bad lines
// are lines of the file.
func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\nB='x'\n", "export A=\"\"#\r\n", "A='", "=\n=", "#", "\x00=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, bad := config.ParseEnvFile(text)
		lines := strings.Count(text, "\n") + 1
		for name, v := range values {
			if name == "" || strings.ContainsAny(name, " =#\n") || strings.Contains(v, "\n") {
				t.Fatalf("%q: %q=%q", text, name, v)
			}
		}
		if len(values)+len(bad) > lines {
			t.Fatalf("%q: %d settings and %d bad lines in %d", text, len(values), len(bad), lines)
		}
		for _, n := range bad {
			if n < 1 || n > lines {
				t.Fatalf("%q: line %d is bad", text, n)
			}
		}
	})
}
