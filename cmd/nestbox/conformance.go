package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"nestbox/conformance"
)

type conformanceCmd struct {
	output

	URL           string `arg:"" help:"The server's URL, such as https://pds.example.com."`
	Handle        string `required:"" help:"Handle, DID or e-mail address of an account there." placeholder:"HANDLE"`
	Password      string `help:"Its password, or an app password. Default: asked for. Others on this machine can see it; prefer --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
	Yes           bool   `help:"Do not ask before the first call to a server that is not on this machine."`
}

// Help is shown by --help.
func (c *conformanceCmd) Help() string {
	return "Exit status: 0 if no check failed, 1 if one did, 2 if not all could be made."
}

// unchecked is the exit status if not all checks could be made.
const unchecked = exit(2)

// Run checks the server, and ends with status 1 if a check failed.
func (c *conformanceCmd) Run() error {
	report, err := c.check()
	if err != nil {
		fmt.Fprintln(printable{os.Stderr}, "nestbox:", err)
		return unchecked
	}
	if report.Counts[conformance.Fail] > 0 {
		return exit(1)
	}
	return nil
}

func (c *conformanceCmd) check() (conformance.Report, error) {
	target, err := conformance.ParseTarget(c.URL)
	if err != nil {
		return conformance.Report{}, err
	}
	asks := term.IsTerminal(int(os.Stdin.Fd()))
	if !target.Loopback && !c.Yes {
		if err := consent(target, asks); err != nil {
			return conformance.Report{}, err
		}
	}
	if c.Password == "" && !c.PasswordStdin && !asks {
		return conformance.Report{}, errors.New("no password: give it on standard input with --password-stdin")
	}
	password, err := choosePassword(c.Password, c.PasswordStdin || c.Password == "")
	if err != nil {
		return conformance.Report{}, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop() // the next signal ends the process
		fmt.Fprintln(os.Stderr, "interrupted: signing out; press Ctrl-C again to leave the sessions open")
	})()
	o := conformance.Options{Target: target, Identifier: c.Handle, Password: password, Version: version}
	sheet := newSheet(os.Stdout)
	if !c.JSON {
		sheet.head(target)
		o.Progress = sheet.line
	}
	report, err := conformance.Run(ctx, o)
	if len(report.Checks) == 0 {
		return report, err
	}
	if c.JSON {
		return report, errors.Join(err, c.print(report, nil))
	}
	sheet.foot(report)
	return report, err
}

// consent asks the operator whether to call a server that is not on this machine.
func consent(t conformance.Target, asks bool) error {
	calls := fmt.Sprintf("This makes at most %d calls to %s in two minutes, signs in a few times, and signs out again.",
		conformance.MostCalls(), t.Host())
	if !asks {
		return fmt.Errorf("%s\nIt needs your consent: add --yes", calls)
	}
	fmt.Fprintf(os.Stderr, "%s\nIt changes nothing else of the account. Go on? [y/N] ", calls)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New("nothing was called")
	}
	return nil
}
