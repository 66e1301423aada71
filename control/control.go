// Package control is the operator's protocol: commands that reach the server that runs on a
// data directory through a socket in it, or that a process without a server runs itself.
// Arguments and results are JSON. A client that can open the socket (mode 0600) is the
// operator.
package control

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

	"nestbox/internal/system"
)

// socketName is the socket's file in the data directory.
const socketName = "control.sock"

// Command is the name of a command, with the types of its arguments and its result: the
// server that answers it, by Handle, and the client, by Call, cannot differ about them.
type Command[Args, Result any] string

// Func runs one command: arguments and result are JSON.
type Func func(ctx context.Context, args []byte) (any, error)

// Entry is a command and what runs it.
type Entry struct {
	Name string
	Run  Func
}

// Handle makes run answer a command.
func Handle[Args, Result any](c Command[Args, Result], run func(context.Context, Args) (Result, error)) Entry {
	return Entry{string(c), func(ctx context.Context, raw []byte) (any, error) {
		var args Args
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, fmt.Errorf("read arguments: %w", err)
		}
		return run(ctx, args)
	}}
}

// Table returns the commands by name. A name that comes twice is a mistake of the program.
func Table(entries ...Entry) map[string]Func {
	table := make(map[string]Func, len(entries))
	for _, e := range entries {
		if _, twice := table[e.Name]; twice {
			panic("control: two commands are named " + e.Name)
		}
		table[e.Name] = e.Run
	}
	return table
}

// FileCommand runs a command that takes a file, or answers with one: args are JSON, in is
// the file that comes with it, and out gets the file, or the result as JSON.
type FileCommand func(ctx context.Context, args []byte, in io.Reader, out io.Writer) error

// Commands are what a server answers, by name.
type Commands struct {
	Plain map[string]Func
	Files map[string]FileCommand
}

// maxCommand bounds a command and its answer, in bytes.
const maxCommand = 64 << 20

// Listen opens the socket of a data directory, which the caller has locked.
func Listen(ctx context.Context, dir string) (net.Listener, error) {
	// A socket that is there is a dead server's.
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	path, done, err := system.SocketPath(dir, socketName)
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
	if err := os.Chmod(filepath.Join(dir, socketName), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close control socket to others: %w", err), l.Close())
	}
	return l, nil
}

// answer is the answer to a command: one of the two.
type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Handler answers commands: POST /NAME with its arguments as JSON. It serves the socket,
// and commands in a process that has no server to ask.
func (c Commands) Handler() http.Handler {
	mux := http.NewServeMux()
	for name, run := range c.Plain {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { serveCommand(w, r, run) })
	}
	for name, run := range c.Files {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { serveFile(w, r, run) })
	}
	return mux
}

func serveCommand(w http.ResponseWriter, r *http.Request, run Func) {
	var said answer
	args, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if err == nil {
		var result any
		if result, err = run(r.Context(), args); err == nil {
			said.Result, err = json.Marshal(result)
		}
	}
	if err != nil {
		said = answer{Error: err.Error()}
	}
	body, err := json.Marshal(said)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a command that was interrupted needs no answer
}

// ErrNotRunning: no server answers on the data directory.
var ErrNotRunning = errors.New("no server runs on the data directory")

// ErrUnknown: the server that answers has no such command.
var ErrUnknown = errors.New("the server does not know the command")

// Call runs a command on the server of a data directory. ErrNotRunning if there is none.
func Call[Args, Result any](ctx context.Context, dir string, c Command[Args, Result], args Args) (result Result, err error) {
	err = Send(ctx, dir, string(c), args, &result)
	return result, err
}

// Send is Call by name, for what knows no types.
func Send(ctx context.Context, dir, name string, args, result any) error {
	c, done, err := client(dir)
	if err != nil {
		return err
	}
	defer done()
	return call(ctx, c.Do, name, args, result)
}

// client speaks to the server of a data directory: ErrNotRunning if there is no such
// directory. Call done when it is not needed any more.
func client(dir string) (c *http.Client, done func(), err error) {
	path, closeDir, err := system.SocketPath(dir, socketName)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, ErrNotRunning
		}
		return nil, nil, err
	}
	c = &http.Client{Transport: &http.Transport{
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
	return c, func() { _ = closeDir() }, nil // a folder opened for its descriptor alone
}

// Run runs a command in this process.
func (c Commands) Run(ctx context.Context, name string, args, result any) error {
	return call(ctx, func(r *http.Request) (*http.Response, error) {
		rec := &recorder{header: http.Header{}, code: http.StatusOK}
		c.Handler().ServeHTTP(rec, r)
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
	var said answer
	if resp.StatusCode != http.StatusOK || json.Unmarshal(raw, &said) != nil {
		return fmt.Errorf("%w (status %d)", ErrUnknown, resp.StatusCode)
	}
	if said.Error != "" {
		return errors.New(said.Error)
	}
	return json.Unmarshal(said.Result, result)
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
