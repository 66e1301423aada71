package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// serveFile answers POST /NAME?args=JSON, whose body is a file, with a file.
// An error before it began is answered as a command's; later the connection is cut, so
// that no client takes a part for the whole.
func serveFile(w http.ResponseWriter, r *http.Request, run FileCommand) {
	conn := http.NewResponseController(w)
	// It is the operator's own socket: a large file may take its time.
	if err := errors.Join(conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Time{})); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := &begun{w: w}
	err := run(r.Context(), []byte(r.URL.Query().Get("args")), r.Body, out)
	switch {
	case err == nil:
	case out.yes:
		panic(http.ErrAbortHandler)
	default:
		body, encodeErr := json.Marshal(answer{Error: err.Error()})
		if encodeErr != nil {
			body = []byte(`{"error":"the error cannot be told"}`)
		}
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write(body) // a command that was interrupted needs no answer
	}
}

// begun reports whether something was written.
type begun struct {
	w   http.ResponseWriter
	yes bool
}

// Flush sends what was written: a command that takes long reports its steps.
func (b *begun) Flush() error { return http.NewResponseController(b.w).Flush() }

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.w.Write(p)
}

// CallFile runs a FileCommand on the server of a data directory. ErrNotRunning if there is
// none.
func CallFile(ctx context.Context, dir, name string, args any, in io.Reader, out io.Writer) error {
	c, done, err := client(dir)
	if err != nil {
		return err
	}
	defer done()
	text, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	to := "http://nestbox/" + name + "?args=" + url.QueryEscape(string(text))
	// Not the reader itself: the client would close it, and it may be needed.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, struct{ io.Reader }{in})
	if err != nil {
		return fmt.Errorf("make command: %w", err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		if _, err := io.Copy(out, resp.Body); err != nil {
			return fmt.Errorf("the answer broke off: %w", err)
		}
		return nil
	case http.StatusUnprocessableEntity:
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxCommand))
		var said answer
		if err == nil {
			err = json.Unmarshal(raw, &said)
		}
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		return errors.New(said.Error)
	default:
		return fmt.Errorf("%w (status %d)", ErrUnknown, resp.StatusCode)
	}
}

// RunFile runs a FileCommand in this process.
func (c Commands) RunFile(ctx context.Context, name string, args any, in io.Reader, out io.Writer) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	run, ok := c.Files[name]
	if !ok {
		return fmt.Errorf("no command %s", name)
	}
	return run(ctx, raw, in, out)
}
