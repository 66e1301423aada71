package e2e

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestFaultsClients: official libraries, which refresh under every preset, get the findings that
// docs/clients.md names as theirs, and no other. The presets' times are a tenth, Retry-After is a
// second, so that it takes seconds.
func TestFaultsClients(t *testing.T) {
	for _, c := range []struct {
		client  string
		presets []string
		// library is its name in package.json; its are the findings that it causes under some preset,
		// as docs/clients.md says for its version. Every one must come.
		library string
		its     []string
	}{
		{
			client: "atproto-api", library: "@atproto/api", its: []string{"early-refresh", "ignored-retry-after"},
			presets: []string{"none", "mobile", "tabs", "flaky-host", "expiry", "end-of-life"},
		},
		{
			client: "lex-password-session", library: "@atproto/lex-password-session", its: []string{"early-refresh", "ignored-retry-after"},
			presets: []string{"none", "mobile", "tabs", "flaky-host", "expiry", "end-of-life"},
		},
		{
			client: "oauth-atproto", library: "@atproto/oauth-client-node", its: []string{"ignored-retry-after"},
			presets: []string{"none", "mobile", "tabs", "flaky-host", "expiry", "end-of-life", "oauth"},
		},
	} {
		t.Run(c.client, func(t *testing.T) {
			t.Parallel()
			servers, shown := map[string]*pdstest.Process{}, map[string]map[string]string{}
			soon := filepath.Join(t.TempDir(), "soon.json")
			if err := os.WriteFile(soon, []byte(`{"faults":[{"fault":"access-life","for":"2s"}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, preset := range c.presets {
				servers[preset] = launchFailing(t)
				shown[preset] = map[string]string{"url": servers[preset].Base, "plc": servers[preset].Ready.PLC}
			}
			env, err := json.Marshal(shown)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, []string{"faults.mjs", c.client}, []string{"SERVERS=" + string(env)}, handlers{
				"soon": func(preset string) any {
					if preset != "none" {
						setFaults(t, servers[preset], soon)
					}
					return nil
				},
				"faults": func(preset string) any {
					setFaults(t, servers[preset], quickened(t, servers[preset], preset))
					return nil
				},
				"calm": func(preset string) any {
					refreshed(t, servers[preset], preset)
					setFaults(t, servers[preset], "none")
					return nil
				},
				"account": func(preset string) any { return newOwner(t, servers[preset], "alice") },
				"allow": func(request string) any {
					var r struct{ Preset, URL, Identifier string }
					if err := json.Unmarshal([]byte(request), &r); err != nil {
						t.Error(err)
					}
					p := person{identifier: r.Identifier, password: pdstest.Password, transport: toServer{servers[r.Preset].Ready.Listen}}
					to, err := p.answer(t.Context(), r.URL)
					if err != nil {
						t.Logf("%s: %v", r.Preset, err) // an account that is down; the app tries again
					}
					return to
				},
			})
			var found []string
			for _, preset := range c.presets {
				for kind, evidence := range findingsOf(t, servers[preset]) {
					if preset == "tabs" && kind == slept {
						kind = preset + ": " + slept
					}
					if !slices.Contains(found, kind) {
						found = append(found, kind)
					}
					if !slices.Contains(append(c.its, "tabs: "+slept), kind) {
						t.Errorf("%s: %s: %q", preset, kind, evidence)
					}
				}
			}
			for _, kind := range append(c.its, "tabs: "+slept) {
				if !slices.Contains(found, kind) {
					t.Errorf("%s did not come", kind)
				}
			}
			documented(t, c.library, c.its)
		})
	}
}

// slept is the finding about a tab of the app that comes with what it had at first.
const slept = "stale-token"

// refreshed fails the test unless the client refreshed under a preset, and what the preset does to refreshes
// acted.
func refreshed(t *testing.T, p *pdstest.Process, preset string) {
	t.Helper()
	out, err := pdstest.Run(t, "", "dev", "faults", "--json", "--data", p.Dir)
	var state struct {
		Plan struct {
			Faults []struct {
				Fault   string
				Methods []string
			}
		}
		Happened []struct {
			Fault string
			Times int
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &state) != nil || len(state.Happened) != len(state.Plan.Faults) {
		t.Errorf("%s: %v: %s", preset, err, out)
		return
	}
	lives, named, acted, window := 0, 0, 0, 0 // short lives, faults of refreshes, how often they acted, reuse windows
	for i, f := range state.Plan.Faults {
		switch times := state.Happened[i].Times; {
		case f.Fault == "access-life":
			lives += times
		case f.Fault == "reuse-window":
			window += times
		case slices.Equal(f.Methods, []string{"refresh"}):
			named++
			acted += times
		}
	}
	if preset != "none" && lives < 2 || named > 0 && acted == 0 || preset == "tabs" && window == 0 {
		t.Errorf("%s: too few refreshes: %+v", preset, state.Happened)
	}
}

// documented compares what is found of a library with docs/clients.md: its version, and the findings.
func documented(t *testing.T, library string, its []string) {
	t.Helper()
	var installed struct{ Dependencies map[string]string }
	raw, err := os.ReadFile("package.json")
	if err != nil || json.Unmarshal(raw, &installed) != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := "| `" + library + "` " + installed.Dependencies[library] + " | "
	_, rest, ok := strings.Cut(string(text), row)
	if !ok {
		t.Fatalf("docs/clients.md has no row %q", row)
	}
	cell, _, _ := strings.Cut(rest, " | ")
	var want []string
	for _, kind := range its {
		want = append(want, "["+kind+"](#"+kind+")")
	}
	if all := cmp.Or(strings.Join(want, ", "), "none"); cell != all {
		t.Errorf("docs/clients.md has %q for %s, want %q", cell, library, all)
	}
}

// launchFailing starts a server that records calls from its start.
func launchFailing(t *testing.T) *pdstest.Process {
	t.Helper()
	dir := pdstest.TempDir(t)
	p := pdstest.LaunchArgs(t, []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir, "--faults", "none"})
	p.Dir = dir
	t.Cleanup(func() {
		p.Stop()
		pdstest.Verify(t, dir)
	})
	return p
}

func setFaults(t *testing.T, p *pdstest.Process, plan string) string {
	t.Helper()
	out, err := pdstest.Run(t, "", "dev", "faults", "--json", "--data", p.Dir, plan)
	if err != nil {
		t.Error(err)
	}
	return out
}

// quickened writes a preset to a file with times that are a tenth, and a seed.
func quickened(t *testing.T, p *pdstest.Process, preset string) string {
	t.Helper()
	var state struct {
		Plan struct {
			Seed   int              `json:"seed"`
			Faults []map[string]any `json:"faults"`
		} `json:"plan"`
	}
	if err := json.Unmarshal([]byte(setFaults(t, p, preset+":7")), &state); err != nil {
		t.Error(err)
	}
	for _, f := range state.Plan.Faults {
		if f["retryAfter"] != nil {
			f["retryAfter"] = "1s"
		}
		for _, name := range []string{"from", "to", "for"} {
			text, ok := f[name].(string)
			if !ok {
				continue
			}
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Error(err)
			}
			f[name] = (d / 10).String()
		}
	}
	raw, err := json.Marshal(state.Plan)
	if err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), preset+".json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Error(err)
	}
	return file
}

// findingsOf returns the evidence of what the server has found, by kind.
func findingsOf(t *testing.T, p *pdstest.Process) map[string][]string {
	t.Helper()
	out, err := pdstest.Run(t, "", "dev", "report", "--json", "--data", p.Dir)
	var report struct {
		Calls   int
		Clients []struct {
			UserAgent string
			Findings  []struct {
				Kind     string
				Evidence []string
			}
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || report.Calls < 20 {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string][]string{}
	for _, c := range report.Clients {
		for _, f := range c.Findings {
			found[f.Kind] = append(found[f.Kind], f.Evidence...)
		}
	}
	return found
}

// TestFaultsDropped: an app that drops its session is found, though the OAuth library signs out of it behind the
// new sign-in.
func TestFaultsDropped(t *testing.T) {
	p := launchFailing(t)
	plan := filepath.Join(t.TempDir(), "plan.json")
	text := `{"faults":[{"fault":"access-life","for":"20s"},{"fault":"status","status":503,"methods":["refresh"]}]}`
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	setFaults(t, p, plan)
	runScript(t, []string{"faults-dropped.mjs"}, []string{"SERVICE=" + p.Base, "PLC=" + p.Ready.PLC}, handlers{
		"account": func(name string) any { return newOwner(t, p, name) },
		"allow":   func(request string) any { return answerScript(t, p, request, false) },
	})
	if found := findingsOf(t, p); len(found) != 1 || len(found["dropped-session"]) != 1 {
		t.Errorf("found %v", found)
	}
}
