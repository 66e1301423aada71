package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"nestbox/config"
	"nestbox/internal/system"
	"nestbox/server"
)

type serveCmd struct {
	where

	NoSafetyCopy bool   `help:"Upgrade the database without keeping a copy of it as it was before."`
	Faults       string `help:"With --dev: fail on purpose, by a preset (nestbox dev faults --list) or a file." placeholder:"PRESET|FILE[:SEED]"`
	Listen       string `help:"Address to listen on, host:port; port 0 picks a free one." placeholder:"ADDR"`
}

// Run serves until SIGTERM or SIGINT; a second signal ends the process at once.
func (s *serveCmd) Run() (err error) {
	flags := config.Flags{Listen: s.Listen, Data: s.Data, EnvFile: s.EnvFile, Dev: s.Dev}
	// First: a server without --dev needs settings that an author of a client does not have.
	around, err := developing(config.IsDevelopment(flags, os.Environ()), s.Faults, os.Stderr)
	if err != nil {
		return err
	}
	c, warnings, err := config.Load(flags, os.Environ())
	if err != nil {
		return err
	}
	log, done, err := openLog(&c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	for _, w := range warnings {
		log.Warn("configuration", slog.String("note", w))
	}
	collectLater()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { // ends with the process
		<-signals
		log.Info("stopping")
		stop()
		<-signals
		os.Exit(1)
	}()
	restored, err := server.RestoreFirst(ctx, &c, s.EnvFile, log)
	if err != nil {
		return err
	}
	if restored != nil { // what was taken over has its places elsewhere
		if c, warnings, err = config.Load(flags, os.Environ()); err != nil {
			return err
		}
	}
	srv, err := server.Open(ctx, server.Options{
		Config: c, Origins: config.Origins(flags, os.Environ()), Warnings: warnings, Version: version, Log: log, Now: time.Now,
		Fatal: fatal(log), DevMail: os.Stderr, Listen: true, Manager: system.FindManager(os.Environ()), NoSafetyCopy: s.NoSafetyCopy,
		Around: around,
	})
	if err != nil {
		return err
	}
	if c.DevMode {
		fmt.Fprintf(os.Stderr, firstSteps, srv.URL)
	}
	err = srv.Serve(ctx, os.Stdout)
	return errors.Join(err, srv.Close())
}

// firstSteps is printed to standard error in development.
const firstSteps = `
Nestbox serves at %[1]s (development: open sign-up, handles under .test, admin password "admin"). Try:

  curl -s %[1]s/xrpc/com.atproto.server.createAccount -H 'Content-Type: application/json' \
    -d '{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}'

  curl -s %[1]s/xrpc/com.atproto.server.createSession -H 'Content-Type: application/json' \
    -d '{"identifier":"alice.test","password":"correct-horse"}'

`

// fatal ends the process when it is unknown what is on disk: recovery decides.
func fatal(log *slog.Logger) func(error) {
	return func(err error) {
		log.Error("the outcome of a commit is unknown, stopping", slog.String("cause", err.Error()))
		os.Exit(70)
	}
}

// collectLater is for commands whose live heap is a few MiB: collecting it at four times its size
// instead of twice saves a tenth of the CPU for a few MiB more.
func collectLater() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
}
