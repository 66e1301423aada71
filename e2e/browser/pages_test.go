package browser

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nestbox/web"
	"nestbox/web/webtest"
)

// site serves every sample at its own path, which decides its headers, with its name in
// the query; a form that is posted is answered by its fields, as JSON.
func site(t *testing.T) *httptest.Server {
	t.Helper()
	pages, err := web.New(web.Settings{
		Hostname: "pds.example.com", Dev: true, Pseudo: true,
		Brand: web.Brand{
			Name: "Example Nest", HomeURL: "https://example.com", SupportURL: "https://example.com/help", PrivacyURL: "https://example.com/privacy",
			TermsURL: "https://example.com/terms", ContactEmail: "pds@example.com",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]webtest.Sample{}
	for _, s := range webtest.Samples() {
		samples[s.Name] = s
	}
	mux := http.NewServeMux()
	mux.HandleFunc(web.AssetPath, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == web.AssetPath+"logo" { // of a trusted client
			w.Header().Set("Content-Type", "image/svg+xml")
			_, _ = io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" fill="#7a4fd0"/></svg>`)
			return
		}
		pages.ServeAsset(w, r)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			web.SecureHeaders(w.Header(), r, true)
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(map[string]any{"path": r.URL.Path, "fields": r.PostForm}); err != nil {
				t.Error(err)
			}
			return
		}
		s, ok := samples[r.URL.Query().Get("sample")]
		if !ok || s.Path != r.URL.Path {
			http.NotFound(w, r)
			return
		}
		pages.Render(w, r, s.Status, s.Page)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// chromium returns the browser's path. Without one the test is skipped, which CI does not
// allow.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Skip("chromium is missing (Debian: apt-get install chromium)")
	return ""
}

// verdict is a line of a script: what is wrong with one sample, or in one story.
type verdict struct {
	Name   string
	Faults []string
}

// play runs a script with its task, and makes each line that it writes a subtest. It returns
// their names.
func play(t *testing.T, script string, task []byte) (seen map[string]bool) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is missing")
	}
	if _, err := os.Stat("../node_modules/playwright-core"); err != nil {
		t.Skip("playwright-core is not installed: run make test-e2e, or npm ci in e2e")
	}
	cmd := exec.CommandContext(t.Context(), node, script, string(task))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen = map[string]bool{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Errorf("%s wrote %q", script, lines.Text())
			continue
		}
		seen[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			for _, fault := range v.Faults {
				t.Error(fault)
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", script, err)
	}
	return seen
}

// TestPages looks at each sample, and plays some stories by keyboard.
func TestPages(t *testing.T) {
	type sample struct{ Name, Path string }
	var samples []sample
	for _, s := range webtest.Samples() {
		samples = append(samples, sample{s.Name, s.Path})
	}
	shots := os.Getenv("NESTBOX_SCREENSHOTS")
	if shots != "" {
		path, err := filepath.Abs(shots)
		if err != nil {
			t.Fatal(err)
		}
		shots = path
	}
	task, err := json.Marshal(map[string]any{"origin": site(t).URL, "chromium": chromium(t), "samples": samples, "shots": shots, "only": os.Getenv("NESTBOX_SAMPLE")})
	if err != nil {
		t.Fatal(err)
	}
	seen := play(t, "pages.mjs", task)
	for _, s := range samples {
		if !seen[s.Name] && os.Getenv("NESTBOX_SAMPLE") == "" {
			t.Errorf("nobody looked at %s", s.Name)
		}
	}
}
