package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/firehose"
)

// pdsadminName is the program's name under which it takes the commands of the official
// distribution's tool, with their arguments, questions and lines.
const pdsadminName = "pdsadmin"

type pdsadminCmd struct {
	Args []string `arg:"" optional:"" passthrough:"" help:"As pdsadmin has them: account list, account create EMAIL HANDLE, …; help lists them."`
}

// Run runs a command of pdsadmin.
func (c *pdsadminCmd) Run() error {
	p := &pdsadmin{
		in: bufio.NewReader(os.Stdin), asks: term.IsTerminal(int(os.Stdin.Fd())), out: printable{os.Stdout}, err: printable{os.Stderr},
	}
	return p.run(c.Args)
}

// exit ends the process with a status after everything was said.
type exit int

func (e exit) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// pdsadmin runs the commands, with the lines of the reference's scripts.
type pdsadmin struct {
	in       *bufio.Reader
	asks     bool // a terminal shows questions
	out, err io.Writer
}

// envFile is where the official distribution has the settings.
const envFile = "/pds/pds.env"

// where returns the server: that of PDS_ENV_FILE, or of the official distribution's file if there
// is one, else that of the environment.
func (p *pdsadmin) where() where {
	file := os.Getenv("PDS_ENV_FILE")
	if file == "" {
		if _, err := os.Stat(envFile); err == nil {
			file = envFile
		}
	}
	return where{EnvFile: file}
}

func (p *pdsadmin) run(args []string) error {
	name, rest := "help", []string(nil)
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	switch name {
	case "help":
		p.say(pdsadminHelp)
		return nil
	case "update":
		return p.fail("this server is Nestbox: install its new version, or pull its new image, and restart it", "")
	case "account":
		return p.account(rest)
	case "create-invite-code":
		var made admin.AccountCodes
		if err := call(p.where(), admin.CmdInviteCreate, admin.InviteArgs{Codes: 1, Uses: 1}, &made); err != nil {
			return p.fail(err.Error(), "")
		}
		p.say(strings.Join(made.Codes, "\n"))
		return nil
	case "request-crawl":
		return p.requestCrawl(rest)
	default:
		fmt.Fprintf(p.out, "ERROR: %s not found\n", name)
		return exit(2) //nolint:mnd // the script's
	}
}

const pdsadminHelp = `pdsadmin help
--
account
  list
  create <EMAIL> <HANDLE>
  delete <DID>
  takedown <DID>
  untakedown <DID>
  reset-password <DID>
request-crawl [<RELAY HOST>,...]
create-invite-code
update
help

nestbox --help has more, among it the commands for what pdsadmin does not do.`

// say prints lines.
func (p *pdsadmin) say(lines ...string) {
	for _, line := range lines {
		fmt.Fprintln(p.out, line)
	}
}

// fail prints an error, and how the command is called if usage is set.
func (p *pdsadmin) fail(what, usage string) error {
	fmt.Fprintf(p.err, "ERROR: %s\n", what)
	if usage != "" {
		fmt.Fprintf(p.err, "Usage: pdsadmin %s\n", usage)
	}
	return exit(1)
}

// ask returns the answer to a question, which is shown on a terminal only.
func (p *pdsadmin) ask(question string) string {
	if p.asks {
		fmt.Fprint(p.err, question)
	}
	line, err := p.in.ReadString('\n')
	if err != nil && line == "" {
		return ""
	}
	return strings.TrimSpace(line)
}

func (p *pdsadmin) account(args []string) error {
	args = append(args, "", "", "")
	what, first := args[0], args[1]
	switch what {
	case "list":
		return p.list()
	case "create":
		return p.create(first, args[2])
	case "delete", "takedown", "untakedown", "reset-password":
	default:
		fmt.Fprintf(p.err, "Unknown subcommand: %s\n", what)
		return exit(1)
	}
	usage := "account " + what + " <DID>"
	switch {
	case first == "":
		return p.fail("missing DID parameter.", usage)
	case !strings.HasPrefix(first, "did:"):
		return p.fail(`DID parameter must start with "did:".`, usage)
	}
	if err := p.change(what, first); err != nil {
		if code, ok := errors.AsType[exit](err); ok {
			return code
		}
		return p.fail(err.Error(), "")
	}
	return nil
}

// change changes an account.
func (p *pdsadmin) change(what, did string) error {
	var line admin.AccountLine
	switch what {
	case "delete":
		p.say("This action is permanent.")
		answer := strings.ToLower(p.ask(fmt.Sprintf("Are you sure you'd like to delete %s? [y/N] ", did)))
		if answer != "y" && answer != "yes" {
			return exit(0)
		}
		var done admin.Done
		if err := call(p.where(), admin.CmdAccountDelete, admin.AccountArgs{Account: did}, &done); err != nil {
			return err
		}
		p.say(did + " deleted")
	case "takedown":
		ref := strconv.FormatInt(time.Now().Unix(), 10)
		if err := call(p.where(), admin.CmdAccountTakedown, admin.TakedownArgs{Account: did, Ref: ref}, &line); err != nil {
			return err
		}
		p.say(did + " taken down")
		if line.AnnouncementWaits {
			p.say(announcementWaits)
		}
	case "untakedown":
		if err := call(p.where(), admin.CmdAccountUntakedown, admin.AccountArgs{Account: did}, &line); err != nil {
			return err
		}
		p.say(did + " untaken down")
	case "reset-password":
		if err := call(p.where(), admin.CmdAccountPassword, admin.PasswordArgs{Account: did}, &line); err != nil {
			return err
		}
		p.say("", "Password reset for "+did, "New password: "+line.Password, "")
	}
	return nil
}

// list prints all accounts; the reference's script ends after 100.
func (p *pdsadmin) list() error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Handle\tEmail\tDID")
	for args := (admin.ListArgs{}); ; {
		var page admin.AccountPage
		if err := call(p.where(), admin.CmdAccountList, args, &page); err != nil {
			return p.fail(err.Error(), "")
		}
		for _, a := range page.Accounts {
			fmt.Fprintf(w, "%s\t%s\t%s\n", a.Handle, a.Email, a.DID)
		}
		if args.After = page.Next; args.After == 0 {
			break
		}
	}
	return w.Flush()
}

func (p *pdsadmin) create(email, handle string) error {
	host := os.Getenv("PDS_HOSTNAME")
	if c, _, err := config.Load(p.where().flags(), os.Environ()); err == nil {
		host = c.Hostname
	}
	if email == "" {
		email = p.ask(fmt.Sprintf("Enter an email address (e.g. alice@%s): ", host))
	}
	if handle == "" {
		handle = p.ask(fmt.Sprintf("Enter a handle (e.g. alice.%s): ", host))
	}
	const usage = "account create <EMAIL> <HANDLE>"
	if email == "" || handle == "" {
		return p.fail("missing EMAIL and/or HANDLE parameters.", usage)
	}
	var a admin.AccountLine
	if err := call(p.where(), admin.CmdAccountCreate, admin.CreateArgs{Handle: handle, Email: email}, &a); err != nil {
		return p.fail(err.Error(), usage)
	}
	p.say("", "Account created successfully!", "-----------------------------", "Handle   : "+handle, "DID      : "+a.DID,
		"Password : "+a.Password, "-----------------------------", "Save this password, it will not be displayed again.", "")
	return nil
}

// requestCrawl asks relays to crawl the server: those that are named, by host or URL, else those of
// PDS_CRAWLERS.
func (p *pdsadmin) requestCrawl(args []string) error {
	c, _, err := config.Load(p.where().flags(), os.Environ())
	if err != nil {
		return p.fail(err.Error(), "")
	}
	hosts := c.Crawlers
	if len(args) > 0 && args[0] != "" {
		hosts = strings.FieldsFunc(args[0], func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(hosts) == 0 {
		return p.fail("missing RELAY HOST parameter.", "request-crawl <RELAY HOST>[,<RELAY HOST>,...]")
	}
	for _, host := range hosts {
		p.say("Requesting crawl from " + host)
		url := host
		if !strings.Contains(url, "://") {
			url = "https://" + url
		}
		crawler := firehose.NewCrawler([]string{url}, c.Hostname, http.DefaultClient, slog.New(slog.DiscardHandler))
		if err := crawler.Ask(context.Background(), url); err != nil {
			return p.fail(err.Error(), "")
		}
	}
	p.say("done")
	return nil
}

// asPDSAdmin returns the arguments of a program that was called by a name: those of the command
// pdsadmin if it was called by that.
func asPDSAdmin(name string, args []string) []string {
	if filepath.Base(cmp.Or(name, "nestbox")) == pdsadminName {
		return slices.Concat([]string{pdsadminName}, args)
	}
	return args
}
