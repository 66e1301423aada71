package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"nestbox/config"
	"nestbox/server"
)

type verifyCmd struct {
	where

	Repair string `help:"Repair before the check, with the server stopped: rebuild-index derives again what follows from the records." enum:",rebuild-index" default:"" placeholder:"WHAT"`
}

// progressEvery is how often the progress is written to standard error.
const progressEvery = 2 * time.Second

// Run prints a line for each fault, and fails if there is one.
func (c *verifyCmd) Run() error {
	conf, _, err := config.Load(c.flags(), os.Environ())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	begun := time.Now()
	told := begun
	say := func(kind string) func(string) { return func(line string) { fmt.Println(kind + ": " + line) } }
	v, err := server.Verification(&conf)
	if err != nil {
		return err
	}
	v.Now, v.Fault, v.Remark = time.Now, say("fault"), say("remark")
	v.Progress = func(line string) {
		if now := time.Now(); now.Sub(told) >= progressEvery {
			told = now
			fmt.Fprintf(os.Stderr, "%4.0f s: %s\n", now.Sub(begun).Seconds(), line)
		}
	}
	if c.Repair != "" {
		v.Repaired = say("repaired")
	}
	done, err := v.Run(ctx)
	if err != nil {
		return fmt.Errorf("not verified to the end: %w", err)
	}
	fmt.Printf("%d accounts, %d repositories, %d records, %d blobs, %d events verified in %.1f s: %d faults\n",
		done.Accounts, done.Repositories, done.Records, done.Blobs, done.Events, time.Since(begun).Seconds(), done.Faults)
	if done.Odd > 0 {
		fmt.Printf("%d of the records could not be written here: they came with an import and are kept as they are\n", done.Odd)
	}
	if done.Faults > 0 {
		return errors.New("the data directory is damaged")
	}
	return nil
}
