package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"nestbox/config"
	"nestbox/internal/pdstest"
)

// manual is the sandbox in which the blocks of docs/operations.md run, one after the
// other, as an operator reads them.
type manual struct {
	t     *testing.T
	dir   string // where the document's folders are
	p     *pdstest.Process
	paths *strings.Replacer
	env   []string
}

// manualBlock is a code block of a document. The comment above it selects what the
// test does with it and, behind a colon, what it needs.
type manualBlock struct{ line, kind, needs, lang, text string }

var manualFence = regexp.MustCompile("(?m)^(?:<!-- (\\w+)(?:: (.*))? -->\n)?```(\\w*)\n((?:.*\n)*?)```$")

func manualBlocks(t *testing.T, path string) (blocks []manualBlock) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manualFence.FindAllSubmatchIndex(text, -1) {
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return string(text[m[2*i]:m[2*i+1]])
		}
		line := 1 + strings.Count(string(text[:m[0]]), "\n")
		blocks = append(blocks, manualBlock{fmt.Sprintf("line %d", line), part(1), part(2), part(3), part(4)})
	}
	return blocks
}

// TestManual: every code block of docs/operations.md works. What needs systemd, a proxy
// or the network is checked for names and form.
func TestManual(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("sqlite3 is missing, which the commands of the manual use")
	}
	t.Parallel()
	m := newManual(t)
	blocks := manualBlocks(t, "../docs/operations.md")
	kinds := map[string]int{}
	for _, b := range blocks {
		kinds[b.kind]++
		t.Run(b.line, func(t *testing.T) {
			m := *m
			m.t = t
			switch b.kind {
			case "run":
				m.run(b)
			case "commands":
				m.shell(b)
				m.commands(b)
			case "shell":
				m.shell(b)
			case "settings":
				m.settings(b)
			case "unit":
				m.unit(b)
			case "caddy", "nginx":
				m.proxy(b, blocks)
			case "yaml":
				m.yaml(b)
			default:
				t.Errorf("the block in %s has no comment above it that says how it is tested: %s", b.line, b.text)
			}
		})
	}
	for _, kind := range []string{"run", "commands", "settings", "unit", "caddy", "nginx", "yaml"} {
		if kinds[kind] == 0 {
			t.Errorf("no block of kind %s was found", kind)
		}
	}
}

func newManual(t *testing.T) *manual {
	t.Helper()
	dir := pdstest.TempDir(t)
	m := &manual{t: t, dir: dir}
	for _, name := range []string{"bin", "etc", "backups"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(pdstest.Binary(t), filepath.Join(dir, "bin", "nestbox")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "pds.env"), []byte("PDS_DEV_MODE=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	m.p = pdstest.Launch(t, filepath.Join(dir, "data"))
	m.p.SignUp(t, "bob")
	m.paths = strings.NewReplacer(
		"/var/lib/nestbox", filepath.Join(dir, "data"), "/var/backups/nestbox", filepath.Join(dir, "backups", "nestbox"),
		"/etc/nestbox", filepath.Join(dir, "etc"), "127.0.0.1:2583", m.p.Ready.Listen, "chown -R nestbox:", "chown -R "+who.Username+":",
	)
	m.env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "PDS_DATA_DIRECTORY="+filepath.Join(dir, "data"), "PDS_DEV_MODE=true")
	return m
}

// run runs a block as it is. A backup must hold what was there when it began.
func (m *manual) run(b manualBlock) {
	t := m.t
	var picture string
	owner := pdstest.Session{}
	stopped := strings.Contains(b.needs, "no server")
	if strings.HasPrefix(b.needs, "the backup") {
		if _, err := os.Stat(filepath.Join(m.dir, "backups", "nestbox", "snapshots")); err != nil {
			t.Fatalf("the block needs a backup: %v", err)
		}
	}
	if strings.Contains(b.text, "nestbox backup --to") {
		owner, picture = m.live()
	}
	if stopped {
		m.p.Stop()
	}
	out := m.bash(b.text)
	if stopped {
		m.p.Restart()
		m.restored()
	}
	switch {
	case strings.Contains(b.text, "nestbox backup verify") && !strings.Contains(out, `"faults":0`),
		strings.Contains(b.text, "nestbox verify") && !strings.Contains(out, " 0 faults"),
		strings.Contains(b.text, "_health") && !strings.Contains(out, `"version"`):
		t.Errorf("it printed %s", out)
	}
	if picture != "" {
		m.lose(owner, picture)
	}
}

// remembered is what the backup has and the server has lost.
const remembered = "remembered"

// live makes an account that shows a picture.
func (m *manual) live() (owner pdstest.Session, picture string) {
	m.t.Helper()
	owner = m.p.SignUp(m.t, "alice")
	a := m.p.Do(m.t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(owner.AccessJwt), Body: "a picture that is to come back",
		Header: http.Header{"Content-Type": {"text/plain"}},
	})
	var out struct {
		Blob struct {
			Type string            `json:"$type"`
			Ref  map[string]string `json:"ref"`
			Mime string            `json:"mimeType"`
			Size int               `json:"size"`
		}
	}
	a.Decode(m.t, &out)
	a = m.p.Do(m.t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(owner.AccessJwt), Body: map[string]any{
		"repo": owner.DID, "collection": "com.example.picture", "record": map[string]any{"image": out.Blob},
	}})
	if a.Status != http.StatusOK {
		m.t.Fatalf("%d %s", a.Status, a.Body)
	}
	return owner, out.Blob.Ref["$link"]
}

// lose loses the picture's file, and notes which it was.
func (m *manual) lose(owner pdstest.Session, picture string) {
	m.t.Helper()
	err := filepath.WalkDir(filepath.Join(m.dir, "data", "blobs"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			err = os.Remove(path)
		}
		return err
	})
	if err == nil {
		query := url.Values{"did": {owner.DID}, "cid": {picture}}.Encode()
		err = os.WriteFile(filepath.Join(m.dir, remembered), []byte(query), 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// restored fails the test unless the picture is back.
func (m *manual) restored() {
	m.t.Helper()
	query, err := os.ReadFile(filepath.Join(m.dir, remembered))
	if err != nil {
		m.t.Fatal(err)
	}
	a := m.p.Do(m.t, pdstest.Request{NSID: "com.atproto.sync.getBlob?" + string(query)})
	if a.Status != http.StatusOK || string(a.Body) != "a picture that is to come back" {
		m.t.Errorf("the blob after the restore: %d %s", a.Status, a.Body)
	}
}

// bash runs a script with the paths of the sandbox.
func (m *manual) bash(script string) string {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "bash", "-euc", m.paths.Replace(script))
	cmd.Env, cmd.Dir = m.env, m.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Errorf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

// shell checks the form of a script.
func (m *manual) shell(b manualBlock) {
	cmd := exec.CommandContext(m.t.Context(), "bash", "-n")
	cmd.Stdin = strings.NewReader(b.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Errorf("%s: %v\n%s", b.line, err, out)
	}
	for line := range strings.Lines(b.text) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), " #")
		command, _, _ = strings.Cut(command, " < ")
		command, _, _ = strings.Cut(command, " > ")
		if args := strings.Fields(command); strings.HasPrefix(command, "nestbox ") && !strings.ContainsAny(command, `"'`) {
			if r := pdstest.Exec(m.t, pdstest.Invocation{Args: append(args[1:], "--help")}); r.Code != 0 {
				m.t.Errorf("%s: %s", command, r.Stderr)
			}
		}
	}
}

// wrongUsage is the binary's error for an unknown command or flag.
const wrongUsage = "nestbox --help shows what there is"

// commands runs each line. The accounts, keys and numbers in them are examples, so
// a command may fail; but it must exist.
func (m *manual) commands(b manualBlock) {
	n := 0
	for line := range strings.Lines(b.text) {
		if !strings.HasPrefix(line, "nestbox ") {
			continue
		}
		n++
		if _, file, ok := strings.Cut(line, " < "); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(file), " ")
			if err := os.WriteFile(filepath.Join(m.dir, name), []byte("text\n"), 0o600); err != nil {
				m.t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(m.t.Context(), "bash", "-c", m.paths.Replace(line))
		cmd.Env, cmd.Dir = m.env, m.dir
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), wrongUsage) {
			m.t.Errorf("%s%s", line, out)
		}
	}
	if n == 0 {
		m.t.Errorf("%s has no command", b.line)
	}
}

// settings makes the configuration read the block.
func (m *manual) settings(b manualBlock) {
	t := m.t
	whole := b.text
	if !strings.Contains(whole, "PDS_HOSTNAME=") {
		whole += "PDS_HOSTNAME=pds.example.com\n"
	}
	file := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	_, unknown, err := config.Load(config.Flags{EnvFile: file, Data: t.TempDir()}, nil)
	if err != nil || len(unknown) > 0 {
		t.Errorf("%s: %v, %v", b.line, unknown, err)
	}
}

// yaml checks the form of what goes into the files of other programs.
func (m *manual) yaml(b manualBlock) {
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(b.text), &parsed); err != nil || len(parsed) == 0 {
		m.t.Errorf("%s: %v, %v", b.line, parsed, err)
	}
}

var unitLine = regexp.MustCompile(`^(\[\w+\]|\w+=\S.*|)$`)

// unit checks a unit's form, and that the binary has the command that it starts.
func (m *manual) unit(b manualBlock) {
	started := false
	for line := range strings.Lines(b.text) {
		line = strings.TrimSuffix(line, "\n")
		if !unitLine.MatchString(line) {
			m.t.Errorf("%s: %q", b.line, line)
		}
		command, ok := strings.CutPrefix(line, "ExecStart=")
		if !ok {
			continue
		}
		started = true
		args := strings.Fields(command)
		r := pdstest.Exec(m.t, pdstest.Invocation{Args: append(slices.Clone(args[1:]), "--help")})
		if r.Code != 0 || filepath.Base(args[0]) != "nestbox" {
			m.t.Errorf("%s: %s", command, r.Stderr)
		}
	}
	if !started {
		m.t.Error("it starts nothing")
	}
}

var proxyAddress = regexp.MustCompile(`(?:http://)?(127\.0\.0\.1:\d+)(/[\w-]+)?`)

// proxy checks that a proxy's settings are whole, lead to the address of the document's
// settings, and request what the server serves.
func (m *manual) proxy(b manualBlock, all []manualBlock) {
	t := m.t
	if open, closed := strings.Count(b.text, "{"), strings.Count(b.text, "}"); open == 0 || open != closed {
		t.Errorf("%s: %d braces are opened, %d closed", b.line, open, closed)
	}
	for _, found := range proxyAddress.FindAllStringSubmatch(b.text, -1) {
		if !slices.ContainsFunc(all, func(o manualBlock) bool {
			return o.kind == "settings" && strings.Contains(o.text, "PDS_LISTEN="+found[1]+"\n")
		}) {
			t.Errorf("%s: no settings have the server listen on %s", b.line, found[1])
		}
		if found[2] == "" {
			continue
		}
		resp, err := http.Get(m.p.Base + found[2] + "?domain=bob.test") //nolint:noctx // the test's own server
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s answers %d", b.line, found[2], resp.StatusCode)
		}
	}
}
