package web

import (
	"context"
	"errors"
	"slices"
	"strings"

	"nestbox/admin"
)

// contentActs are those about a record or a blob.
func contentActs() []act {
	content := func(in input, applied bool) admin.ContentArgs {
		a := admin.ContentArgs{URI: in.get("uri"), Account: in.get("account"), Blob: in.get("blob"), Applied: applied}
		if applied {
			a.Ref = in.get("case")
		}
		return a
	}
	contentLine := func(in input, more ...string) []string {
		if in.get("blob") != "" {
			return append([]string{"takedown", "blob", in.get("account"), in.get("blob")}, more...)
		}
		return append([]string{"takedown", in.get("uri")}, more...)
	}
	about := []string{"uri", "account", "blob"}
	return []act{
		{
			name: "content-takedown", part: "content", role: admin.RoleModerator, danger: true, about: about,
			fields: []ActField{caseField},
			line:   func(in input) []string { return withCase(in, contentLine(in)...) },
			run:    do(admin.CmdTakedownSet, func(in input) admin.ContentArgs { return content(in, true) }),
		},
		{
			name: "content-lift", part: "content", role: admin.RoleModerator, about: about,
			line: func(in input) []string { return contentLine(in, "--lift") },
			run:  do(admin.CmdTakedownSet, func(in input) admin.ContentArgs { return content(in, false) }),
		},
	}
}

// inviteActs are those about invite codes.
func inviteActs() []act {
	return []act{
		{
			name: "invite-create", part: "invites", role: admin.RoleAdmin,
			fields: []ActField{
				{Name: "codes", Label: "desk.invite-codes", Kind: NumberField, Required: true, Value: "1", Max: 5},
				{Name: "uses", Label: "desk.invite-uses", Kind: NumberField, Required: true, Value: "1", Max: 7},
				{Name: "account", Label: "desk.invite-for", Hint: "desk.invite-for-hint", Kind: CodeField},
			},
			line: func(in input) []string {
				line := []string{"invite", "create", "--codes", in.get("codes"), "--uses", in.get("uses")}
				if in.get("account") != "" {
					line = append(line, "--account", in.get("account"))
				}
				return line
			},
			run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
				made, err := admin.Do(ctx, s, admin.CmdInviteCreate, admin.InviteArgs{
					Codes: int(number(in.get("codes"))), Uses: int(number(in.get("uses"))), Account: in.get("account"),
				})
				return made.Codes, err
			},
		},
		{
			name: "invite-disable", part: "invites", role: admin.RoleModerator, danger: true, about: []string{"code"},
			line: func(in input) []string { return []string{"invite", "disable", in.get("code")} },
			run: do(admin.CmdInviteDisable, func(in input) admin.InviteDisableArgs {
				return admin.InviteDisableArgs{Codes: []string{in.get("code")}}
			}),
		},
	}
}

// serverActs are those about the server: the event stream, apps, relays, mail, the doctor.
func serverActs() []act {
	return []act{
		{
			name: "disconnect", part: "firehose", role: admin.RoleAdmin, danger: true, about: []string{"subscriber"},
			line: func(in input) []string { return []string{"firehose", "disconnect", in.get("subscriber")} },
			run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
				_, err := admin.Do(ctx, s, admin.CmdFirehoseDisconnect, admin.DisconnectArgs{ID: number(in.get("subscriber"))})
				if errors.Is(err, admin.ErrNoSubscriber) {
					err = nil // it has gone, as the form wants
				}
				return nil, err
			},
		},
		{
			name: "client-end", part: "clients", role: admin.RoleAdmin, danger: true, about: []string{"client"},
			line: func(in input) []string { return []string{"client", "end", in.get("client")} },
			run:  do(admin.CmdClientEnd, func(in input) admin.ClientArgs { return admin.ClientArgs{ClientID: in.get("client")} }),
		},
		{
			name: "client-fetch", part: "clients", role: admin.RoleAdmin, about: []string{"client"},
			line: func(in input) []string { return []string{"client", "fetch", in.get("client")} },
			run:  do(admin.CmdClientFetch, func(in input) admin.ClientArgs { return admin.ClientArgs{ClientID: in.get("client")} }),
		},
		{
			name: "crawl", part: "relays", role: admin.RoleAdmin, about: []string{"relay"},
			line: func(in input) []string { return []string{"relay", "crawl", in.get("relay")} },
			run:  do(admin.CmdRelayCrawl, func(in input) admin.RelayArgs { return admin.RelayArgs{Relay: in.get("relay")} }),
		},
		{
			name: "mail-retry", part: "mail", role: admin.RoleAdmin,
			line: func(input) []string { return []string{"mail", "retry"} },
			run:  do(admin.CmdMailRetry, func(input) admin.Done { return admin.Done{} }),
		},
		{
			name: "mail-test", part: "mail", role: admin.RoleAdmin,
			fields: []ActField{{Name: "to", Label: "desk.mail-to", Kind: EmailField, Required: true}},
			line:   func(in input) []string { return []string{"mail", "test", in.get("to")} },
			run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
				r, err := admin.Do(ctx, s, admin.CmdMailTest, admin.MailTestArgs{To: in.get("to")})
				if err != nil {
					return nil, err
				}
				lines := slices.Concat([]string{r.Server}, strings.Split(strings.ReplaceAll(strings.TrimSpace(r.Transcript), "\r", ""), "\n"))
				if r.Error != "" {
					lines = append(lines, r.Error)
				}
				return lines, nil
			},
		},
		{
			name: "look", part: "doctor", role: admin.RoleAdmin,
			line: func(input) []string { return []string{"doctor"} },
			run:  func(ctx context.Context, s *admin.Service, _ input) ([]string, error) { return nil, s.LookAgain(ctx) },
		},
	}
}
