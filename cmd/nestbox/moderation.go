package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"nestbox/admin"
	"nestbox/mail"
)

type accountSearchCmd struct {
	where
	output

	Text string `arg:"" help:"A part of an e-mail address or of a handle."`
}

func (c *accountSearchCmd) Run() error {
	return printAccounts(c.output, func(after int64, page *admin.AccountPage) error {
		return call(c.where, admin.CmdAccountSearch, admin.SearchArgs{Text: c.Text, After: after}, page)
	})
}

type accountEmailCmd struct {
	target

	Email string `arg:"" help:"The new address."`
}

func (c *accountEmailCmd) Run() error {
	return change(c.target, admin.CmdAccountEmail, admin.EmailArgs{Account: c.Account, Email: c.Email}, "e-mail address changed")
}

type accountMailCmd struct {
	target

	Subject string `help:"Subject of the message." placeholder:"TEXT"`
}

func (c *accountMailCmd) Run() error {
	text, err := io.ReadAll(io.LimitReader(os.Stdin, mail.MaxMessage+1))
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	args := admin.MailArgs{Account: c.Account, Subject: c.Subject, Text: string(text)}
	return change(c.target, admin.CmdAccountMail, args, "the message waits to be sent")
}

type takedownCmd struct {
	Record takedownRecordCmd `cmd:"" default:"withargs" help:"Take a record down: nestbox takedown at://ACCOUNT/COLLECTION/KEY."`
	Blob   takedownBlobCmd   `cmd:"" help:"Take a blob down."`
	List   takedownListCmd   `cmd:"" help:"List an account's records and blobs that are taken down."`
}

// measure are the flags of commands that take down.
type measure struct {
	where
	output

	Lift bool   `help:"Lift the takedown."`
	Ref  string `help:"Reference of the moderation case." placeholder:"TEXT"`
}

func (m measure) set(args admin.ContentArgs) error {
	args.Applied, args.Ref = !m.Lift, m.Ref
	if m.Lift && m.Ref != "" {
		return errors.New("--ref goes with a takedown, not with --lift")
	}
	var line admin.TakedownLine
	if err := call(m.where, admin.CmdTakedownSet, args, &line); err != nil {
		return err
	}
	said := "taken down"
	if m.Lift {
		said = "takedown lifted"
	}
	return m.print(line, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", takedownSubject(line), said) })
}

func takedownSubject(t admin.TakedownLine) string {
	if t.URI != "" {
		return t.URI
	}
	return t.DID + " " + t.Blob
}

type takedownRecordCmd struct {
	measure

	URI string `arg:"" help:"at://ACCOUNT/COLLECTION/KEY."`
}

func (c *takedownRecordCmd) Run() error { return c.set(admin.ContentArgs{URI: c.URI}) }

type takedownBlobCmd struct {
	measure

	Account string `arg:"" help:"DID, handle or e-mail address."`
	CID     string `arg:"" name:"cid" help:"The blob's CID."`
}

func (c *takedownBlobCmd) Run() error {
	return c.set(admin.ContentArgs{Account: c.Account, Blob: c.CID})
}

type takedownListCmd struct{ target }

func (c *takedownListCmd) Run() error {
	all := []admin.TakedownLine{}
	for after := ""; ; {
		var page admin.TakedownPage
		if err := call(c.where, admin.CmdTakedownList, admin.TakedownsArgs{Account: c.Account, After: after}, &page); err != nil {
			return err
		}
		all = append(all, page.Takedowns...)
		if after = page.Next; after == "" {
			break
		}
	}
	return c.print(all, func(w io.Writer) {
		fmt.Fprintln(w, "WHEN\tWHAT\tREFERENCE")
		for _, t := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\n", t.At, takedownSubject(t), t.Ref)
		}
	})
}

type auditCmd struct {
	where
	output

	Account string `arg:"" optional:"" help:"DID, handle or e-mail address; the DID of an account that is gone."`
	Who     string `help:"The actor: operator, admin, or the DID of an account or of a moderation service." placeholder:"WHO"`
	What    string `help:"The action, as the log names it." placeholder:"ACTION"`
	Since   string `help:"The earliest time: 2026-03-01T00:00:00Z." placeholder:"TIME"`
}

func (c *auditCmd) Run() error {
	all := []admin.AuditLine{}
	for before := int64(0); ; {
		var page admin.AuditPage
		if err := call(c.where, admin.CmdAudit, admin.AuditArgs{Account: c.Account, Who: c.Who, What: c.What, Since: c.Since, Before: before},
			&page); err != nil {
			return err
		}
		all = append(all, page.Actions...)
		if before = page.Next; before == 0 {
			break
		}
	}
	return c.print(all, func(w io.Writer) {
		fmt.Fprintln(w, "WHEN\tWHO\tWHAT\tACCOUNT\tSUBJECT\tDETAILS\tFROM\tCLIENT")
		for _, a := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.At, a.Who, a.What, a.Account, a.Subject, a.Details, a.Network, a.UserAgent)
		}
	})
}
