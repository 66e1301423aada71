package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"nestbox/plc/directory"
)

// devDirectory is the embedded PLC directory, on its own loopback address.
type devDirectory struct {
	url    string
	server *http.Server
	dir    *directory.Directory
	ended  sync.WaitGroup
}

func startDirectory(ctx context.Context, folder string, anyPort bool, now func() time.Time) (*devDirectory, error) {
	dir, err := directory.Open(folder, now)
	if err != nil {
		return nil, err
	}
	addr := devPLCAddr
	if anyPort {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the PLC directory: %w", err), dir.Close())
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, errors.Join(err, l.Close(), dir.Close())
	}
	d := &devDirectory{url: "http://localhost:" + port, dir: dir, server: &http.Server{
		Handler: dir.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
	}}
	d.ended.Go(func() { _ = d.server.Serve(l) }) // ends with ErrServerClosed, by close
	return d, nil
}

func (d *devDirectory) close() error {
	err := d.server.Close()
	d.ended.Wait()
	return errors.Join(err, d.dir.Close())
}
