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
	"nestbox/server"
)

type mailCmd struct {
	Test  mailTestCmd  `cmd:"" help:"Send a test message now, and show the mail server's answer."`
	Retry mailRetryCmd `cmd:"" help:"Try again now to send every message that waits."`
}

type mailTestCmd struct {
	where
	output

	Address string `arg:"" help:"The recipient's address."`
}

// Run sends the mail itself if the settings name a mail server; else the server
// that runs on the data directory sends it.
func (m *mailTestCmd) Run() error {
	result, err := m.test()
	if err != nil {
		return err
	}
	if err := m.print(result, func(w io.Writer) { fmt.Fprintf(w, "%s\n%s", result.Server, result.Transcript) }); err != nil {
		return err
	}
	if result.Error != "" {
		return fmt.Errorf("the message to %s was not taken: %s", result.To, result.Error)
	}
	if !m.JSON {
		fmt.Printf("The mail server took the message to %s. Whether it arrives, its mailbox shows.\n", result.To)
	}
	return nil
}

func (m *mailTestCmd) test() (result admin.MailTested, err error) {
	ctx := context.Background()
	flags := m.flags()
	flags.Mail = true
	c, _, err := config.Load(flags, os.Environ())
	if err != nil {
		return result, err
	}
	if c.SMTPURL.IsSet() {
		return server.TestMail(ctx, &c, time.Now(), m.Address)
	}
	result, err = control.Call(ctx, c.DataDirectory, admin.CmdMailTest, admin.MailTestArgs{To: m.Address})
	if errors.Is(err, control.ErrNotRunning) {
		err = errors.New("no server runs on the data directory, and PDS_EMAIL_SMTP_URL is not set: " +
			"give this command the settings with --env-file")
	}
	return result, err
}

type accountNoticesCmd struct {
	target

	State string `arg:"" enum:"on,off" help:"on or off."`
}

func (c *accountNoticesCmd) Run() error {
	return change(c.target, admin.CmdAccountNotices, admin.SwitchArgs{Account: c.Account, On: c.State == "on"}, "notices "+c.State)
}

type accountCodesCmd struct {
	target

	State string `arg:"" enum:"off" help:"off; only the owner can turn them on, in an app."`
}

func (c *accountCodesCmd) Run() error {
	return change(c.target, admin.CmdAccountCodes, admin.SwitchArgs{Account: c.Account}, "sign-in codes off")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

type mailRetryCmd struct {
	where
	output
}

func (c *mailRetryCmd) Run() error {
	var n admin.MailWaiting
	if err := call(c.where, admin.CmdMailRetry, admin.Done{}, &n); err != nil {
		return err
	}
	return c.print(n, func(w io.Writer) { fmt.Fprintf(w, "%d messages are tried again now\n", n.Messages) })
}
