package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/control"
)

type healthCmd struct {
	where
	output

	Ready bool `help:"Ask whether it should get requests: it takes writes, its disk has room, and it does not stop."`
}

// healthPatience bounds the wait for an answer.
const healthPatience = 5 * time.Second

// Run asks the running server, and fails if it does not answer that all is well.
func (c *healthCmd) Run() error {
	settings, _, err := config.Load(c.flags(), os.Environ())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthPatience)
	defer cancel()
	h, err := control.Call(ctx, settings.DataDirectory, admin.CmdHealth, admin.Done{})
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return control.ErrNotRunning
	case err != nil:
		return fmt.Errorf("the server does not answer: %w", err)
	}
	well := h.Live && (h.Ready || !c.Ready)
	err = c.print(h, func(w io.Writer) {
		switch {
		case well:
			fmt.Fprintln(w, "ok")
		default:
			fmt.Fprintln(w, h.Problem)
		}
	})
	if !well {
		err = errors.Join(err, errors.New("the server is not well"))
	}
	return err
}
