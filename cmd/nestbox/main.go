// Command nestbox is the server and its operator's tool: one file a subcommand.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"nestbox/config"
	"nestbox/control"
	"nestbox/server"
)

// version is set by the linker.
var version = "dev"

// cli is the command line.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the server."`
	Account  accountCmd  `cmd:"" help:"Create and manage accounts."`
	Session  sessionCmd  `cmd:"" help:"List and end sessions."`
	Takedown takedownCmd `cmd:"" help:"Take down or restore records and blobs."`
	Identity identityCmd `cmd:"" help:"Compare an account's identity with the network, and repair it."`
	Invite   inviteCmd   `cmd:"" help:"Create, list and disable invite codes."`
	Admin    adminCmd    `cmd:"" help:"Let accounts in to the admin page."`
	Audit    auditCmd    `cmd:"" help:"Show what admins did."`
	Health   healthCmd   `cmd:"" help:"Ask the running server whether it works: exit status 0 for yes."`
	Doctor   doctorCmd   `cmd:"" help:"Check the server's setup and what it depends on."`
	Mail     mailCmd     `cmd:"" help:"Test the mail server."`
	Keys     keysCmd     `cmd:"" help:"List, rotate and retire the server's session keys, and encrypt private keys with another key."`
	Repo     repoCmd     `cmd:"" help:"Export and import repositories."`
	Client   clientCmd   `cmd:"" help:"List OAuth clients, and end their sessions."`
	Stats    statsCmd    `cmd:"" help:"Count accounts, records, blobs and, if asked to, records by collection."`
	Relay    relayCmd    `cmd:"" help:"Show what relays know of this server, and ask them to crawl it."`
	Firehose firehoseCmd `cmd:"" help:"Show and manage the event stream."`
	Takeover takeoverCmd `cmd:"" help:"Take over the data directory of a reference PDS (bluesky-social/pds)."`
	Verify   verifyCmd   `cmd:"" help:"Check everything in a data directory, also while its server runs."`
	Backup   backupCmd   `cmd:"" help:"Back up everything, also while the server runs; list and verify backups. For the flags, ask nestbox backup make --help."`
	Restore  restoreCmd  `cmd:"" help:"Make a data directory of a backup."`
	Dev      devCmd      `cmd:"" help:"For authors of clients, on a server of serve --dev: fail on purpose, and see what clients get wrong."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Conformance conformanceCmd `cmd:"" help:"Check the sessions and the OAuth of any PDS from outside, as a client sees them."`

	PDSAdmin  pdsadminCmd  `cmd:"" name:"pdsadmin" help:"The commands of the official distribution's pdsadmin."`
	Downgrade downgradeCmd `cmd:"" help:"Go back to the database from before an upgrade, with the server stopped."`
}

func main() {
	var c cli
	parser := newParser(&c)
	args := asPDSAdmin(os.Args[0], os.Args[1:])
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		// kong itself writes the help to standard output, where scripts expect
		// results.
		fail(fmt.Errorf("%w; nestbox --help shows what there is", err))
	}
	if err := ctx.Run(); err != nil {
		if code, ok := errors.AsType[exit](err); ok {
			os.Exit(int(code))
		}
		fail(err)
	}
}

func newParser(c *cli, more ...kong.Option) *kong.Kong {
	more = append(more, kong.Name("nestbox"), kong.Description("A Personal Data Server for the AT Protocol."), kong.Help(printHelp))
	return kong.Must(c, more...)
}

// printHelp prints kong's help, in which flags of which one must be given are (--a | --b): kong shows
// them as if all must be. The model is not used any more: the process ends.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	for _, node := range ctx.Model.Leaves(false) {
		choices := map[string][]string{}
		for _, f := range node.Flags {
			if f.Required && len(f.Xor) == 1 {
				f.Required = false
				choices[f.Xor[0]] = append(choices[f.Xor[0]], f.Summary())
			}
		}
		for _, name := range slices.Sorted(maps.Keys(choices)) {
			node.Name += " (" + strings.Join(choices[name], " | ") + ")"
		}
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "nestbox:", err)
	os.Exit(1)
}

// where are the flags that select the server.
type where struct {
	Data    string `help:"Data directory (PDS_DATA_DIRECTORY)." placeholder:"DIR"`
	EnvFile string `help:"File with PDS_* settings." placeholder:"FILE"`
	Dev     bool   `help:"Development: needs no other setting (PDS_DEV_MODE)."`
}

// flags are the sources of a command's settings on the data directory.
func (w where) flags() config.Flags {
	return config.Flags{Data: w.Data, EnvFile: w.EnvFile, Dev: w.Dev, Command: true}
}

// output are the flags of commands that print something.
type output struct {
	JSON bool `name:"json" help:"Print JSON, for scripts."`
}

// print writes a result as JSON, or as people describes it.
func (o output) print(result any, people func(w io.Writer)) error {
	if o.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(result)
	}
	w := tabwriter.NewWriter(printable{os.Stdout}, 0, 8, 2, ' ', 0)
	people(w)
	return w.Flush()
}

// printable replaces what would steer a terminal: names and notes are of strangers. Each
// Write has whole characters.
type printable struct{ io.Writer }

// Write implements io.Writer.
func (p printable) Write(text []byte) (int, error) {
	_, err := p.Writer.Write(bytes.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text))
	return len(text), err
}

// call runs a command on the data directory that w names.
func call[A, R any](w where, c control.Command[A, R], args A, result *R) error {
	return w.reach(
		func(ctx context.Context, dir string) (err error) {
			*result, err = control.Call(ctx, dir, c, args)
			return err
		},
		func(ctx context.Context, s *server.Server) error { return s.Run(ctx, string(c), args, result) })
}

// stream executes a command that reads a file, or writes one.
func (w where) stream(name string, args any, in io.Reader, out io.Writer) error {
	return w.reach(
		func(ctx context.Context, dir string) error { return control.CallFile(ctx, dir, name, args, in, out) },
		func(ctx context.Context, s *server.Server) error { return s.RunFile(ctx, name, args, in, out) })
}

// reach does something through the server that runs on the data directory, else
// on the data directory itself, which is locked meanwhile.
func (w where) reach(running func(context.Context, string) error, alone func(context.Context, *server.Server) error) error {
	ctx := context.Background()
	c, _, err := config.Load(w.flags(), os.Environ())
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.DataDirectory); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	err = running(ctx, c.DataDirectory)
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	if names := c.Forgotten(); len(names) > 0 {
		return fmt.Errorf("the server of this data directory has %s from its environment: "+
			"give it to this command too, with --env-file", strings.Join(names, " and "))
	}
	logger, err := newLogger("error", "text")
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, server.Options{Config: c, Version: version, Log: logger, Now: time.Now, Fatal: fatal(logger)})
	if err != nil {
		return err
	}
	return errors.Join(alone(ctx, s), s.Close())
}
