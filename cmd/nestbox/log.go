package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"nestbox/config"
	"nestbox/internal/logfile"
	"nestbox/internal/system"
)

// openLog returns the log that the settings name, and what closes it. A file is opened again on
// SIGHUP.
func openLog(c *config.Config) (log *slog.Logger, done func() error, err error) {
	if c.LogDestination == "" {
		if system.IsJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")) {
			log, err = journalLogger(os.Stderr, c.LogLevel, c.LogFormat)
		} else {
			log, err = newLogger(c.LogLevel, c.LogFormat)
		}
		return log, func() error { return nil }, err
	}
	file, err := logfile.Open(c.LogDestination, c.LogMaxSize, c.LogKeep)
	if err != nil {
		return nil, nil, fmt.Errorf("PDS_LOG_DESTINATION: %w", err)
	}
	handler, err := logHandler(file, c.LogLevel, c.LogFormat)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	log = slog.New(handler)
	again, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(again, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-again:
				if err := file.Reopen(); err != nil {
					log.Error("the log was not opened again", slog.String("cause", err.Error()))
				}
			case <-ended:
				return
			}
		}
	}()
	return log, func() error { signal.Stop(again); close(ended); return file.Close() }, nil
}

// newLogger returns a log on standard error.
func newLogger(level, format string) (*slog.Logger, error) {
	h, err := logHandler(os.Stderr, level, format)
	if err != nil {
		return nil, err
	}
	return slog.New(h), nil
}

func logHandler(out io.Writer, level, format string) (slog.Handler, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.NewJSONHandler(out, opts), nil
	}
	return slog.NewTextHandler(out, opts), nil
}

// journalLogger returns a log whose lines begin with their level as journald knows it, <3> for
// an error (sd-daemon(3)).
func journalLogger(out io.Writer, level, format string) (*slog.Logger, error) {
	var j journal
	for i, priority := range [...]int{7, 6, 4, 3} {
		h, err := logHandler(prefixed{out, "<" + strconv.Itoa(priority) + ">"}, level, format)
		if err != nil {
			return nil, err
		}
		j[i] = h
	}
	return slog.New(j), nil
}

// journal has a handler for each level.
type journal [4]slog.Handler

func (j journal) of(l slog.Level) slog.Handler {
	switch {
	case l < slog.LevelInfo:
		return j[0]
	case l < slog.LevelWarn:
		return j[1]
	case l < slog.LevelError:
		return j[2]
	default:
		return j[3]
	}
}

// Enabled implements slog.Handler.
func (j journal) Enabled(ctx context.Context, l slog.Level) bool { return j.of(l).Enabled(ctx, l) }

// Handle implements slog.Handler.
func (j journal) Handle(ctx context.Context, r slog.Record) error {
	return j.of(r.Level).Handle(ctx, r)
} //nolint:gocritic // its signature

// WithAttrs implements slog.Handler.
func (j journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	for i := range j {
		j[i] = j[i].WithAttrs(attrs)
	}
	return j
}

// WithGroup implements slog.Handler.
func (j journal) WithGroup(name string) slog.Handler {
	for i := range j {
		j[i] = j[i].WithGroup(name)
	}
	return j
}

// prefixed writes something ahead of each line.
type prefixed struct {
	io.Writer

	prefix string
}

// Write implements io.Writer: a line is one write.
func (p prefixed) Write(line []byte) (int, error) {
	if _, err := p.Writer.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
