package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"nestbox/admin"
	"nestbox/internal/system"
)

// controlName is the socket through which commands reach the server that runs
// on a data directory. Whoever can open it (mode 0600) is the operator.
const controlName = "control.sock"

// maxCommand bounds a command and its answer, in bytes.
const maxCommand = 64 << 20

func listenControl(ctx context.Context, dir string) (net.Listener, error) {
	// The data directory is locked: a socket that is there is a dead one's.
	if err := os.Remove(filepath.Join(dir, controlName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	path, done, err := system.SocketPath(dir, controlName)
	if err != nil {
		return nil, err
	}
	defer done() //nolint:errcheck // a folder opened for its descriptor alone
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	if ul, ok := l.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false) // its path would be gone with the descriptor
	}
	if err := os.Chmod(filepath.Join(dir, controlName), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close control socket to others: %w", err), l.Close())
	}
	return l, nil
}

// commandAnswer is the answer to a command: one of the two.
type commandAnswer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Control answers commands: POST /NAME with its arguments as JSON. The handler
// serves the socket, and commands in a process that has no server to ask.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	for name, run := range s.admin.Commands() {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { serveCommand(w, r, run) })
	}
	for name, run := range s.admin.Streams() {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { serveStream(w, r, run) })
	}
	return mux
}

func serveCommand(w http.ResponseWriter, r *http.Request, run admin.Command) {
	var answer commandAnswer
	args, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err == nil {
		var result any
		if result, err = run(r.Context(), args); err == nil {
			answer.Result, err = json.Marshal(result)
		}
	}
	if err != nil {
		answer = commandAnswer{Error: err.Error()}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a command that was interrupted needs no answer
}

// ErrNotRunning: no server answers on the data directory.
var ErrNotRunning = errors.New("no server runs on the data directory")

// Command runs a command on the server of a data directory and decodes its
// result. ErrNotRunning where there is none.
func Command(ctx context.Context, dir, name string, args, result any) error {
	client, done, err := controlClient(dir)
	if err != nil {
		return err
	}
	defer done()
	return call(ctx, client.Do, name, args, result)
}

// controlClient speaks to the server of a data directory: ErrNotRunning where
// there is no such directory. done is called when it is not needed any more.
func controlClient(dir string) (client *http.Client, done func(), err error) {
	path, closeDir, err := system.SocketPath(dir, controlName)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, ErrNotRunning
		}
		return nil, nil, err
	}
	client = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", path)
			if err != nil {
				return nil, errors.Join(ErrNotRunning, err)
			}
			return c, nil
		},
	}}
	return client, func() { _ = closeDir() }, nil // a folder opened for its descriptor alone
}

// Run runs a command in this process.
func (s *Server) Run(ctx context.Context, name string, args, result any) error {
	return call(ctx, func(r *http.Request) (*http.Response, error) {
		rec := &recorder{header: http.Header{}, code: http.StatusOK}
		s.Control().ServeHTTP(rec, r)
		return &http.Response{StatusCode: rec.code, Header: rec.header, Body: io.NopCloser(&rec.body)}, nil
	}, name, args, result)
}

func call(ctx context.Context, do func(*http.Request) (*http.Response, error), name string, args, result any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://nestbox/"+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make command: %w", err)
	}
	resp, err := do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxCommand))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	var answer commandAnswer
	if resp.StatusCode != http.StatusOK || json.Unmarshal(raw, &answer) != nil {
		return fmt.Errorf("the server does not know the command (status %d)", resp.StatusCode)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Result, result)
}

// recorder is an http.ResponseWriter in memory.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(code int)        { r.code = code }
