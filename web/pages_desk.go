package web

import (
	"cmp"
	"slices"
	"strings"
)

// AdminSignIn asks for the admin password, or for an account that has a role. Fields: name,
// password; ceremony and credential if Passkey is set; next. Decisions: sign-in, passkey.
type AdminSignIn struct {
	Frame
	// Name is what the field holds at first.
	Name string
	// Passkey is nil if the server can make none, as at 127.0.0.1.
	Passkey *Passkey
}

func (*AdminSignIn) template() string { return "adminsignin" }
func (*AdminSignIn) title() Text      { return Msg("desk.signin-title") }

// DeskFrame is what the pages below /admin have in common: the person's name, and where they
// can go.
type DeskFrame struct {
	// Who names the admin, or has the account's handle; Role is what they may do.
	Who  any
	Role Text
	// Groups are the navigation.
	Groups []NavGroup
	// SignOut is the token of the form that signs out.
	SignOut string
}

// Current returns the text of the page in the navigation that is shown.
func (d *DeskFrame) Current() Text {
	for _, g := range d.Groups {
		for _, item := range g.Items {
			if item.Current {
				return item.Text
			}
		}
	}
	return Msg("desk.menu")
}

// NavGroup is a part of the navigation.
type NavGroup struct {
	Title Text
	Items []NavItem
}

// NavItem leads to a page; Current marks the one that is shown.
type NavItem struct {
	Href    string
	Text    Text
	Current bool
}

// Desk is a page below /admin: sections one below the other. All of them have this one form,
// so that they look alike.
type Desk struct {
	Frame
	Title Text
	// Lead is a sentence below the heading; may be empty.
	Lead Text
	// Up leads to the page that this one is a part of; nil for none.
	Up       *Link
	Filter   *DeskFilter
	Sections []Section
}

func (*Desk) template() string { return "desk" }
func (p *Desk) title() Text    { return p.Title }

// DeskFilter is a form above a list, by GET.
type DeskFilter struct {
	Fields []ActField
	// Ways are filters that need no typing.
	Ways []NavItem
}

// Section is a part of a Desk. What is empty is left out.
type Section struct {
	// ID is its anchor.
	ID    string
	Title Text
	Body  []Text
	Facts []Fact
	Plots []*Plot
	Table *DeskTable
	// Code is text of a machine, a line each: a new password, a record.
	Code []string
	// Empty stands for a table without rows, or facts that there are none of.
	Empty Text
	// Acts lead to actions and pages, More to the rest of the table.
	Acts []DeskLink
	More *Link
	// Image is the path of a picture that somebody asked for.
	Image string
}

// Fact is a value with its name. Values are those of a message, with a line each.
type Fact struct {
	Label  Text
	Values []any
}

// DeskTable is a table. The first cell of a row is its heading.
type DeskTable struct {
	Columns []Text
	Rows    []DeskRow
	// Numbers are the columns that are aligned as numbers.
	Numbers []int
}

// IsNumber reports whether a column is aligned as numbers.
func (t *DeskTable) IsNumber(column int) bool {
	return slices.Contains(t.Numbers, column)
}

// HasActs reports whether a row has actions.
func (t *DeskTable) HasActs() bool {
	for i := range t.Rows {
		if len(t.Rows[i].Acts) > 0 {
			return true
		}
	}
	return false
}

// DeskRow is a row of a table.
type DeskRow struct {
	Cells []Cell
	Acts  []DeskLink
}

// Cell has a line for each value; the first may lead somewhere.
type Cell struct {
	Href  string
	Lines []any
}

// DeskLink leads to an action's page. Of names what it is about, for people who hear the
// link alone.
type DeskLink struct {
	Href   string
	Text   Text
	Of     any
	Danger bool
}

// Badge is a short state with a tone.
type Badge struct {
	Kind Kind
	Text Text
}

// DeskAct asks before an action. Fields: those of Hidden and Fields. Decision: confirm.
type DeskAct struct {
	Frame
	Title  Text
	Body   []Text
	Button Text
	Danger bool
	Hidden []Field
	Fields []ActField
	// Command is the command line that does the same.
	Command string
	// Back is where "Cancel" leads.
	Back string
}

func (*DeskAct) template() string { return "deskact" }
func (p *DeskAct) title() Text    { return p.Title }

// ActField is a field of an action or a filter. Label and Hint are ids of messages.
type ActField struct {
	Name, Label, Hint, Value string
	Kind                     FieldKind
	Options                  []FieldOption
	Required                 bool
	Max                      int
}

// FieldOption is one choice of a field.
type FieldOption struct {
	Value string
	Text  Text
}

// FieldKind is how a field is typed.
type FieldKind string

// The kinds of fields.
const (
	TextField   FieldKind = "text"
	EmailField  FieldKind = "email"
	NumberField FieldKind = "number"
	AreaField   FieldKind = "area"
	ChoiceField FieldKind = "choice"
	// CodeField is a name of a machine: a handle, a DID.
	CodeField FieldKind = "code"
)

// Limit returns how many characters the field takes.
func (f ActField) Limit() int { return cmp.Or(f.Max, 512) } //nolint:mnd // no name or note needs more

// DescribedBy returns the ids of what describes the field.
func (f ActField) DescribedBy(problem *Problem) string {
	var ids []string
	if f.Hint != "" {
		ids = append(ids, f.Name+"-hint")
	}
	if problem != nil {
		ids = append(ids, f.Name+"-error")
	}
	return strings.Join(ids, " ")
}
