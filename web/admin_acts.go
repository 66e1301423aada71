package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/request"
)

// act is something that a page below /admin does: it asks first, then runs the command of
// the operator. Its words are the messages desk.NAME-title, -body, -button and -done.
type act struct {
	// name is the value of ?act= and of the hidden field act.
	name string
	// part is the page that has it; account means the page of an account.
	part string
	role admin.Role
	// danger makes the button red; fresh asks for a sign-in that is at most minutes old.
	danger, fresh bool
	// urgent: it takes effect although the network cannot hear of it yet (account.Urgent).
	urgent bool
	// about are hidden fields that name what it is about, taken from the query.
	about []string
	// fields are asked for, besides the note that every action asks for.
	fields []ActField
	// line is the command line that does the same, without "nestbox".
	line func(in input) []string
	// run does it. What it returns is shown, if it is not empty; secret: it is nowhere else.
	run    func(ctx context.Context, s *admin.Service, in input) (result []string, err error)
	secret bool
}

// input is what an action gets: the account's DID, if it is about one, and its fields.
type input struct {
	did    string
	handle string
	form   url.Values
}

func (in input) get(name string) string { return strings.TrimSpace(in.form.Get(name)) }

// note is the field that every action has.
var noteField = ActField{Name: "note", Label: "desk.note", Hint: "desk.note-hint", Kind: TextField, Max: 200}

// caseField is that of takedowns: the owner sees it, the note not.
var caseField = ActField{Name: "case", Label: "desk.case-label", Hint: "desk.case-hint", Kind: TextField, Max: 200}

// withCase returns the line of a takedown.
func withCase(in input, words ...string) []string {
	if in.get("case") == "" {
		return words
	}
	return append(words, "--ref", in.get("case"))
}

// do returns the run of an action that is one command, whose result nobody needs.
func do[A, R any](c admin.Command[A, R], args func(input) A) func(context.Context, *admin.Service, input) ([]string, error) {
	return func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
		_, err := admin.Do(ctx, s, c, args(in))
		return nil, err
	}
}

// words returns the line of a command on an account.
func words(before ...string) func(input) []string {
	return func(in input) []string { return append(slices.Clone(before), in.did) }
}

func accountArgs(in input) admin.AccountArgs { return admin.AccountArgs{Account: in.did} }

func switched(on bool) func(input) admin.SwitchArgs {
	return func(in input) admin.SwitchArgs { return admin.SwitchArgs{Account: in.did, On: on} }
}

// partAccount is the part of the actions of an account's page.
const partAccount = "account"

// acts are all actions.
func acts() []act {
	return slices.Concat(accountActs(), ownerActs(), makeActs(), contentActs(), inviteActs(), serverActs())
}

// accountActs are those about an account's standing, which moderators may take, too, where
// XRPC lets them.
func accountActs() []act {
	return []act{
		{
			name: "takedown", part: partAccount, role: admin.RoleModerator, danger: true, urgent: true,
			fields: []ActField{caseField},
			line:   func(in input) []string { return withCase(in, "account", "takedown", in.did) },
			run: do(admin.CmdAccountTakedown, func(in input) admin.TakedownArgs {
				return admin.TakedownArgs{Account: in.did, Ref: in.get("case")}
			}),
		},
		{
			name: "untakedown", part: partAccount, role: admin.RoleModerator, line: words("account", "untakedown"),
			run: do(admin.CmdAccountUntakedown, accountArgs),
		},
		{
			name: "suspend", part: partAccount, role: admin.RoleAdmin, danger: true, urgent: true, line: words("account", "suspend"),
			run: do(admin.CmdAccountSuspend, accountArgs),
		},
		{
			name: "unsuspend", part: partAccount, role: admin.RoleAdmin, line: words("account", "unsuspend"),
			run: do(admin.CmdAccountUnsuspend, accountArgs),
		},
		{
			name: "mail", part: partAccount, role: admin.RoleModerator,
			fields: []ActField{
				{Name: "subject", Label: "desk.mail-subject", Kind: TextField, Required: true, Max: 200},
				{Name: "text", Label: "desk.mail-text", Kind: AreaField, Required: true, Max: 20_000},
			},
			line: func(in input) []string {
				return []string{"account", "mail", in.did, "--subject", in.get("subject"), "<", "FILE"}
			},
			run: do(admin.CmdAccountMail, func(in input) admin.MailArgs {
				return admin.MailArgs{Account: in.did, Subject: in.get("subject"), Text: in.get("text")}
			}),
		},
		{
			name: "invites-off", part: partAccount, role: admin.RoleModerator,
			line: func(in input) []string { return []string{"account", "invites", in.did, "off"} },
			run:  do(admin.CmdAccountInvites, switched(false)),
		},
		{
			name: "invites-on", part: partAccount, role: admin.RoleModerator,
			line: func(in input) []string { return []string{"account", "invites", in.did, "on"} }, run: do(admin.CmdAccountInvites, switched(true)),
		},
	}
}

// ownerActs are those about an owner's ways in and identity, for admins alone.
func ownerActs() []act {
	return []act{
		{
			name: "signout", part: partAccount, role: admin.RoleAdmin, danger: true, line: words("account", "signout"),
			run: do(admin.CmdAccountSignout, func(in input) admin.SignOutArgs { return admin.SignOutArgs{Account: in.did} }),
		},
		{
			name: "session-end", part: partAccount, role: admin.RoleAdmin, danger: true, about: []string{"session"},
			line: func(in input) []string { return []string{"session", "revoke", in.did, in.get("session")} },
			run:  endSession,
		},
		{name: "reset", part: partAccount, role: admin.RoleAdmin, line: words("account", "reset"), run: do(admin.CmdAccountReset, accountArgs)},
		{
			name: "password", part: partAccount, role: admin.RoleAdmin, danger: true, secret: true, line: words("account", "password"),
			run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
				line, err := admin.Do(ctx, s, admin.CmdAccountPassword, admin.PasswordArgs{Account: in.did})
				return []string{line.Password}, err
			},
		},
		{
			name: "email", part: partAccount, role: admin.RoleAdmin,
			fields: []ActField{{Name: "email", Label: "desk.email-new", Kind: EmailField, Required: true}},
			line:   func(in input) []string { return []string{"account", "email", in.did, in.get("email")} },
			run: do(admin.CmdAccountEmail, func(in input) admin.EmailArgs {
				return admin.EmailArgs{Account: in.did, Email: in.get("email")}
			}),
		},
		{
			name: "handle", part: partAccount, role: admin.RoleAdmin,
			fields: []ActField{{Name: "handle", Label: "desk.handle-new", Kind: CodeField, Required: true}},
			line:   func(in input) []string { return []string{"account", "handle", in.did, in.get("handle")} },
			run: do(admin.CmdAccountHandle, func(in input) admin.HandleArgs {
				return admin.HandleArgs{Account: in.did, Handle: in.get("handle")}
			}),
		},
		{
			name: "factors-off", part: partAccount, role: admin.RoleAdmin, danger: true,
			line: func(in input) []string { return []string{"account", "factors", in.did, "off"} },
			run: do(admin.CmdAccountFactors, func(in input) admin.FactorsArgs {
				return admin.FactorsArgs{Account: in.did, Off: true}
			}),
		},
		{
			name: "codes-off", part: partAccount, role: admin.RoleAdmin, danger: true,
			line: func(in input) []string { return []string{"account", "codes", in.did, "off"} }, run: do(admin.CmdAccountCodes, switched(false)),
		},
		{
			name: "repair", part: partAccount, role: admin.RoleAdmin, line: words("identity", "repair"),
			run: do(admin.CmdIdentityRepair, func(in input) admin.RepairArgs { return admin.RepairArgs{Account: in.did} }),
		},
		{
			name: "rotate", part: partAccount, role: admin.RoleAdmin, line: words("identity", "rotate-key"),
			run: do(admin.CmdIdentityRotate, accountArgs),
		},
		{
			name: "delete", part: partAccount, role: admin.RoleAdmin, danger: true, fresh: true,
			fields: []ActField{{Name: "handle", Label: "desk.delete-handle", Kind: CodeField, Required: true}},
			line:   words("account", "delete"),
			run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
				if !strings.EqualFold(strings.TrimPrefix(in.get("handle"), "@"), in.handle) {
					return nil, errWrongHandle
				}
				_, err := admin.Do(ctx, s, admin.CmdAccountDelete, accountArgs(in))
				return nil, err
			},
		},
	}
}

// makeActs make an account, as admins may also where sign-up is closed.
func makeActs() []act {
	return []act{{
		name: "account-create", part: "accounts", role: admin.RoleAdmin, secret: true,
		fields: []ActField{
			{Name: "handle", Label: "desk.handle-new", Kind: CodeField, Required: true},
			{Name: "email", Label: "desk.address", Kind: EmailField, Required: true},
		},
		line: func(in input) []string { return []string{"account", "create", in.get("handle"), in.get("email")} },
		run: func(ctx context.Context, s *admin.Service, in input) ([]string, error) {
			made, err := admin.Do(ctx, s, admin.CmdAccountCreate, admin.CreateArgs{
				Handle: strings.TrimPrefix(in.get("handle"), "@"), Email: in.get("email"),
			})
			return []string{made.Handle, made.DID, made.Password}, err
		},
	}}
}

// endSession ends one session. One that is not there has ended already, as the form wants.
func endSession(ctx context.Context, s *admin.Service, in input) ([]string, error) {
	id := number(in.get("session"))
	list, err := admin.Do(ctx, s, admin.CmdSessionList, accountArgs(in))
	if err != nil || !slices.ContainsFunc(list, func(l admin.SessionLine) bool { return l.ID == id }) {
		return nil, err
	}
	_, err = admin.Do(ctx, s, admin.CmdSessionRevoke, admin.SessionArgs{Account: in.did, ID: id})
	return nil, err
}

// errWrongHandle: the handle that was typed is not the account's.
var errWrongHandle = errors.New("that is not the account's handle")

// findAct returns the action of a part by its name.
func findAct(part, name string) (act, bool) {
	all := acts()
	i := slices.IndexFunc(all, func(a act) bool { return a.part == part && a.name == name })
	if i < 0 {
		return act{}, false
	}
	return all[i], true
}

// link returns the link to an action's page; about are pairs of a hidden field and its value.
func (a act) link(path string, about ...string) DeskLink {
	v := url.Values{"act": {a.name}}
	for i := 0; i+1 < len(about); i += 2 {
		v.Set(about[i], about[i+1])
	}
	return DeskLink{Href: path + "?" + v.Encode(), Text: Msg("desk." + a.name + "-button"), Danger: a.danger}
}

// links returns the links to actions of a part, by name, of those that a person may take.
func (q *deskQuery) links(part, path string, names ...string) (out []DeskLink) {
	for _, name := range names {
		if a, ok := findAct(part, name); ok && q.who.Role.Holds(a.role) {
			out = append(out, a.link(path))
		}
	}
	return out
}

// askAct shows the page of an action.
func (p *AdminPages) askAct(q *deskQuery, a act, in input, status int, problems ...Problem) error {
	if a.fresh && !q.who.Fresh {
		next := q.r.URL.Path + "?" + url.Values{"act": {a.name}}.Encode()
		return q.to(DeskPath + "sign-in?" + url.Values{"done": {"again"}, "next": {next}}.Encode())
	}
	title := Msg("desk." + a.name + "-title")
	if in.handle != "" {
		title = Msg(title.ID, "account", Name("@"+in.handle))
	}
	page := &DeskAct{
		Title: title, Body: []Text{Msg("desk." + a.name + "-body")},
		Button: Msg("desk." + a.name + "-button"), Danger: a.danger, Command: commandLine(a.line(in)), Back: q.r.URL.Path,
		Hidden: []Field{{"act", a.name}},
	}
	for _, name := range a.about {
		page.Hidden = append(page.Hidden, Field{name, in.get(name)})
	}
	for _, f := range append(slices.Clone(a.fields), noteField) {
		if q.r.Method == http.MethodPost {
			f.Value = in.form.Get(f.Name)
		}
		page.Fields = append(page.Fields, f)
	}
	page.Frame, _ = p.frame(q, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// commandLine writes a command for a shell. What is not filled in yet is a placeholder.
func commandLine(words []string) string {
	var out strings.Builder
	out.WriteString("nestbox")
	for _, w := range words {
		switch {
		case w == "<" || w == "FILE":
		case w == "":
			w = "…"
		case strings.ContainsAny(w, " \t\n'\"$`\\!*?[](){};&|<>#~"):
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out.WriteString(" " + w)
	}
	return out.String()
}

// acting wraps a page that has actions: ?act= asks, a POST acts.
func (p *AdminPages) acting(q *deskQuery, about func(*deskQuery) (input, error), show func(*deskQuery, input) error) error {
	in, err := about(q)
	if errors.Is(err, account.ErrNotFound) {
		return p.missing(q)
	}
	if err != nil {
		return err
	}
	name := q.asked("act")
	in.form = q.r.URL.Query()
	if q.r.Method == http.MethodPost {
		name, in.form = q.typed("act"), q.r.PostForm
	} else if name == "" {
		return show(q, in)
	}
	a, ok := findAct(q.actPart(), name)
	switch {
	case !ok:
		return p.missing(q)
	case !q.who.Role.Holds(a.role):
		p.forbidden(q)
		return nil
	case q.r.Method != http.MethodPost, a.fresh && !q.who.Fresh:
		return p.askAct(q, a, in, http.StatusOK)
	}
	for _, f := range append(slices.Clone(a.fields), noteField) {
		text := in.get(f.Name)
		switch {
		case f.Required && text == "":
			return p.askAct(q, a, in, http.StatusUnprocessableEntity, Problem{f.Name, Msg("desk.field-missing")})
		case f.Max > 0 && utf8.RuneCountInString(text) > f.Max:
			return p.askAct(q, a, in, http.StatusUnprocessableEntity, Problem{f.Name, Msg("desk.field-long", "most", Count(f.Max))})
		}
	}
	return p.runAct(q, a, in)
}

// actPart returns the part whose actions a page has.
func (q *deskQuery) actPart() string {
	if q.part == "accounts" && q.r.URL.Path != DeskPath+"accounts" {
		return partAccount
	}
	return q.part
}

// runAct does what was confirmed, as the person who is there.
func (p *AdminPages) runAct(q *deskQuery, a act, in input) error {
	ctx := account.WithNote(account.ActingAs(q.r.Context(), q.who.Who), in.get("note"))
	result, err := a.run(ctx, p.Admin, in)
	if _, many := errors.AsType[request.ErrTooMany](err); many || errors.Is(err, account.ErrBusy) || ctx.Err() != nil {
		return err
	}
	if errors.Is(err, errWrongHandle) {
		return p.askAct(q, a, in, http.StatusUnprocessableEntity, Problem{"handle", Msg("desk.wrong-handle")})
	}
	if err != nil {
		return p.askAct(q, a, in, http.StatusUnprocessableEntity, Problem{Text: Msg("desk.failed", "why", English(err.Error()))})
	}
	if len(result) > 0 {
		shown := Section{Code: result}
		if a.secret {
			shown.Body = []Text{Msg("desk.once")}
		}
		return p.render(q, http.StatusOK, &Desk{
			Title: Msg("desk." + a.name + "-done"), Up: &Link{URL: q.r.URL.Path, Text: Msg("error.back")}, Sections: []Section{shown},
		})
	}
	back := q.r.URL.Path
	if a.name == "delete" {
		back = DeskPath + "accounts"
	}
	return q.to(back + "?done=" + a.name)
}

// ActLines returns the words of the command lines that pages show, for tests; what a form
// would fill in is there as its name.
func ActLines() (lines [][]string) {
	for _, a := range acts() {
		in := input{did: "did", handle: "handle", form: url.Values{}}
		for _, name := range a.about {
			in.form.Set(name, "1")
		}
		for _, f := range a.fields {
			in.form.Set(f.Name, "1")
		}
		lines = append(lines, a.line(in))
		in.form.Del("blob")
		in.form.Del("case")
		lines = append(lines, a.line(in))
	}
	return lines
}

// number reads a number of a hidden field; 0 is nobody's.
func number(text string) (n int64) {
	_, _ = fmt.Sscan(text, &n) // what is not a number stays 0
	return n
}
