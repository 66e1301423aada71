package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"nestbox/config"
	"nestbox/server"
	"nestbox/takeover"
)

type takeoverCmd struct {
	output

	EnvFile string `help:"The old server's env file (pds.env)." placeholder:"FILE"`
	From    string `help:"Where the old server's data directory (its PDS_DATA_DIRECTORY) lies on this machine." placeholder:"DIR"`
	To      string `help:"The new data directory. Default: nestbox in the old one." placeholder:"DIR"`
	Dev     bool   `help:"Development: needs no other setting (PDS_DEV_MODE)."`

	DryRun  bool `help:"Read and prove everything, and write nothing but the report." xor:"pass"`
	Prepare bool `help:"The first pass, beside the running old server: repositories and blobs. It may be repeated." xor:"pass"`
	Check   bool `help:"Compare what was taken over with the old data directory." xor:"pass"`
	Finish  bool `help:"Show what can be removed of the old data directory, once there is no way back to be kept." xor:"pass"`

	Back string `help:"The way back: make a data directory for the old server here, with the live sessions and a file for each repository that changed." placeholder:"DIR" xor:"pass"`

	Blobs           string   `help:"How files of blobs are brought: reflink, link or copy. Default: the first of them that works." enum:",reflink,link,copy" default:"" placeholder:"HOW"`
	FromRelay       string   `help:"Fetch the repositories of accounts whose own database is damaged from this host (com.atproto.sync.getRepo). Their keys must be there." placeholder:"URL"`
	HashBlobs       bool     `help:"With --dry-run: read every blob, and compare its content with its name. The passes do that in any case."`
	Token           string   `help:"A file with a token (accessJwt or refreshJwt) of a session of the old server: begin only if the env file's PDS_JWT_SECRET has signed it." placeholder:"FILE"`
	MoveTo          string   `help:"With --finish: move the new data directory here, out of the old one, so that that can be deleted." placeholder:"DIR"`
	Skip            []string `help:"Leave this account out; may be repeated." placeholder:"DID"`
	Force           bool     `help:"Take over what is known of a newer version's data, databases that are older than others, and records whose blobs are lost."`
	KeepDeleteAfter bool     `help:"Delete deactivated accounts when their owners asked for it, in a week at the earliest: the old server never did."`
}

// Run makes a pass, and prints its report. It fails if there is a fault.
func (c *takeoverCmd) Run() error {
	flags := config.Flags{EnvFile: c.EnvFile, Dev: c.Dev, Command: true}
	conf, from, warnings, err := config.LoadReference(flags, os.Environ(), c.From, c.To)
	if err != nil {
		return err
	}
	if c.MoveTo != "" && !c.Finish || c.HashBlobs && !c.DryRun {
		return errors.New("--move-to goes with --finish, and --hash-blobs with --dry-run")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case c.Back != "":
		report, err := server.GoBack(ctx, &conf, c.Back, time.Now())
		if report == nil || err != nil {
			return err
		}
		return c.print(report, func(w io.Writer) { printBack(w, report) })
	case c.Check:
		checked, err := server.CheckTakeover(ctx, &conf, from, time.Now())
		if err != nil {
			return err
		}
		if err := c.print(checked, func(w io.Writer) { printChecked(w, checked) }); err != nil {
			return err
		}
		if len(checked.Differences) > 0 {
			return errors.New("the new data directory is not what the old one was")
		}
		return nil
	case c.Finish:
		return c.over(&conf)
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	o := server.TakeoverOptions{
		Config: &conf, From: from, Pass: c.pass(), Manner: takeover.Manner(c.Blobs), Skip: c.Skip, Force: c.Force,
		KeepDeleteAfter: c.KeepDeleteAfter, HashBlobs: c.HashBlobs, Relay: c.FromRelay, Token: token,
		Version: version, Now: time.Now, Progress: progress(os.Stderr),
	}
	collectLater()
	report, err := server.TakeOver(ctx, o)
	if report == nil {
		return err
	}
	// What is to be changed before the new server starts with the same file.
	flags.Command = false
	_, _, _, unready := config.LoadReference(flags, os.Environ(), c.From, c.To)
	if faults, ok := errors.AsType[config.Faults](unready); ok {
		for _, f := range faults {
			report.Settings = append(report.Settings, fmt.Sprintf("%s: %s; %s", f.Setting, f.Problem, f.Want))
		}
	}
	report.Settings = append(report.Settings, warnings...)
	perr := c.print(report, func(w io.Writer) { printReport(w, report, o.Pass, err) })
	if _, refused := errors.AsType[takeover.Refusals](err); refused {
		err = errors.New("nothing was taken over")
	}
	if err == nil && len(report.Faults) > 0 {
		err = takeover.ErrFaults
	}
	return errors.Join(hinted(err), perr)
}

// over shows what may be removed of the old data directory, after the new one was moved out of
// it if that was asked for.
func (c *takeoverCmd) over(conf *config.Config) error {
	over, err := server.OverTakeover(conf)
	if c.MoveTo != "" && err == nil {
		over, err = server.MoveTakeover(conf, c.MoveTo)
	}
	if err != nil {
		return err
	}
	return c.print(over, func(w io.Writer) { printOver(w, over) })
}

// token reads the file of --token.
func (c *takeoverCmd) token() (string, error) {
	if c.Token == "" {
		return "", nil
	}
	raw, err := os.ReadFile(c.Token)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", fmt.Errorf("%s is empty: write a token into it", c.Token)
	}
	return token, nil
}

// hinted adds to the error of a pass what to do about it, where that is not the cause's to say.
func hinted(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("it was interrupted: run the command again, it goes on where it was")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run the command as root, or as the old server's user", err)
	}
	return err
}

func (c *takeoverCmd) pass() server.Pass {
	switch {
	case c.DryRun:
		return server.DryRun
	case c.Prepare:
		return server.Prepare
	default:
		return server.Finish
	}
}

// progress writes a line now and then: the first, and those that come progressEvery after
// one that was written.
func progress(w io.Writer) func(string) {
	begun := time.Now()
	var told time.Time
	return func(line string) {
		if now := time.Now(); now.Sub(told) >= progressEvery {
			told = now
			_, _ = fmt.Fprintf(w, "%4.0f s: %s\n", now.Sub(begun).Seconds(), line) // it is for people who watch
		}
	}
}
