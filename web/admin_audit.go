package web

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/admin"
)

// auditShown is how many actions a page of the audit log has.
const auditShown = 40

// auditArgs returns what a request selects of the audit log; problems are of its fields.
func auditArgs(q *deskQuery) (args admin.AuditArgs, problems []Problem) {
	args = admin.AuditArgs{
		Account: strings.TrimSpace(q.asked("account")), Who: strings.TrimSpace(q.asked("who")), What: strings.TrimSpace(q.asked("what")),
		Before: number(q.asked("before")),
	}
	if since := strings.TrimSpace(q.asked("since")); since != "" {
		day, err := time.Parse(time.DateOnly, since)
		if err != nil {
			return args, []Problem{{"since", Msg("desk.day-wrong")}}
		}
		args.Since = day.Format(time.RFC3339)
	}
	return args, nil
}

// showAudit is /admin/audit: what admins did, filtered; ?download=1 as ndjson.
func (p *AdminPages) showAudit(q *deskQuery) error {
	args, problems := auditArgs(q)
	var page admin.AuditPage
	var err error
	if len(problems) == 0 {
		page, err = admin.Do(q.r.Context(), p.Admin, admin.CmdAudit, args)
		if err != nil && args.Account != "" {
			if _, unknown := p.Admin.Subject(q.r.Context(), args.Account); unknown != nil {
				problems = append(problems, Problem{"account", Msg("desk.account-unknown")})
				err = nil
			}
		}
	}
	if err != nil {
		return err
	}
	if q.asked("download") != "" && len(problems) == 0 {
		return p.downloadAudit(q, args, page)
	}
	shown := &Desk{Title: Msg("desk.part-audit"), Lead: Msg("desk.audit-lead"), Filter: &DeskFilter{Fields: []ActField{
		{Name: "account", Label: "desk.audit-account", Value: args.Account, Kind: CodeField},
		{Name: "who", Label: "desk.audit-who", Value: args.Who, Kind: CodeField},
		{Name: "what", Label: "desk.audit-what", Value: args.What, Kind: CodeField},
		{Name: "since", Label: "desk.audit-since", Value: q.asked("since"), Kind: CodeField},
	}}}
	shown.Problems = problems
	s := Section{Table: &DeskTable{Columns: []Text{Msg("desk.what"), Msg("desk.audit-whom"), Msg("desk.audit-by"), Msg("desk.when")}}}
	actions := page.Actions[:min(len(page.Actions), auditShown)]
	for _, a := range actions {
		s.Table.Rows = append(s.Table.Rows, auditRow(a))
	}
	v := q.r.URL.Query()
	v.Set("download", "1")
	switch {
	case len(actions) == 0:
		s.Empty = Msg("desk.audit-none")
	default:
		s.Acts = []DeskLink{{Href: q.r.URL.Path + "?" + v.Encode(), Text: Msg("desk.audit-download")}}
	}
	if len(page.Actions) > auditShown {
		v.Del("download")
		v.Set("before", strconv.FormatInt(actions[auditShown-1].ID, 10))
		s.More = &Link{URL: q.r.URL.Path + "?" + v.Encode(), Text: Msg("desk.older")}
	}
	shown.Sections = []Section{s}
	status := http.StatusOK
	if len(problems) > 0 {
		status = http.StatusUnprocessableEntity
	}
	return p.render(q, status, shown)
}

func auditRow(a admin.AuditLine) DeskRow {
	what := []any{Name(a.What)}
	if a.Details != "" {
		what = append(what, Stranger(a.Details))
	}
	whom := Cell{Lines: []any{Msg("desk.nobody")}}
	if a.Account != "" {
		whom = Cell{Href: DeskPath + "audit?" + url.Values{"account": {a.Account}}.Encode(), Lines: []any{Name(a.Account)}}
	}
	if a.Subject != "" {
		whom.Lines = append(whom.Lines, Name(a.Subject))
	}
	by := []any{Name(a.Who)}
	if a.Network != "" {
		by = append(by, Name(a.Network))
	}
	return DeskRow{Cells: []Cell{{Lines: what}, whom, {Lines: by}, {Lines: []any{timeOf(a.At)}}}}
}

// downloadAudit sends what was selected as lines of JSON, the latest first, from its first
// page on.
func (p *AdminPages) downloadAudit(q *deskQuery, args admin.AuditArgs, page admin.AuditPage) error {
	h := q.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Content-Disposition", `attachment; filename="audit.ndjson"`)
	lines := json.NewEncoder(q.w)
	for {
		for _, a := range page.Actions {
			if lines.Encode(a) != nil {
				return nil //nolint:nilerr // the browser has gone
			}
		}
		if page.Next == 0 {
			return nil
		}
		args.Before = page.Next
		var err error
		ctx := account.ActingAs(q.r.Context(), q.who.Who)
		if page, err = admin.Do(ctx, p.Admin, admin.CmdAudit, args); err != nil {
			panic(http.ErrAbortHandler) // so that the file is not taken for whole
		}
	}
}
