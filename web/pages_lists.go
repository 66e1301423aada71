package web

import "time"

// Devices lists the browsers that an account is signed in on. Buttons: end and untrust, each
// with the Ref of a row.
type Devices struct {
	Frame
	Rows  []DeviceRow
	Pager Pager
}

// DeviceRow is a browser.
type DeviceRow struct {
	// Ref names it in forms.
	Ref, Name string
	// This is set for the browser that asks.
	This bool
	// SignedIn is not set for one that is trusted alone: its sign-in has run out.
	SignedIn    bool
	Since, Seen time.Time
	Network     string
	// TrustedUntil is when it asks for the second step again; zero if it does now.
	TrustedUntil time.Time
}

func (*Devices) template() string { return "devices" }
func (*Devices) title() Text      { return Msg("devices.title") }

// AppPasswords lists app passwords, and makes one. Fields: name, privileged; decision make.
// Button end with the Ref of a row.
type AppPasswords struct {
	Frame
	Rows  []AppPasswordRow
	Pager Pager
	// Full: the account can have no more.
	Full bool
	// Name and MayPrivileged are what was typed.
	Name          string
	MayPrivileged bool
}

// AppPasswordRow is an app password.
type AppPasswordRow struct {
	// Ref names it in forms.
	Ref, Name  string
	Privileged bool
	Made, Used time.Time
	// Network is that of the last use.
	Network  string
	Sessions int
}

func (*AppPasswords) template() string { return "apppasswords" }
func (*AppPasswords) title() Text      { return Msg("app-passwords.title") }

// AppPasswordMade shows a new app password, once.
type AppPasswordMade struct {
	Frame
	Name, Password string
	Privileged     bool
}

func (*AppPasswordMade) template() string { return "apppasswordmade" }
func (*AppPasswordMade) title() Text      { return Msg("app-passwords.made-title") }

// Events lists what happened to an account. Buttons: end with not_me.
type Events struct {
	Frame
	// About is the filter; empty for all.
	About string
	Rows  []EventRow
	Pager Pager
}

// EventRow is one entry of the trail.
type EventRow struct {
	// Anchor is the id of the row.
	Anchor string
	At     time.Time
	// What happened, and to which session.
	What    Text
	Subject *Subject
	// By is who did it; empty if the sentence says so.
	By Text
	// Network and Program are those of the request that caused it, OtherNetwork and
	// OtherProgram those of the other side of a suspicion.
	Network, Program           string
	OtherNetwork, OtherProgram string
	// Warning marks what the owner should look at.
	Warning bool
	// Advice is what to do if it was not the owner; may be empty.
	Advice Text
	// Cause is the address of what ended it, CauseText its words.
	Cause     string
	CauseText Text
	CauseAt   time.Time
	// NotMe is the value of the button "This was not me"; empty for none.
	NotMe string
	// This is set for the sign-in on the browser that asks.
	This bool
}

func (*Events) template() string { return "events" }
func (*Events) title() Text      { return Msg("events.title") }

// Abouts returns the values of the filter.
func (*Events) Abouts() []string {
	return []string{aboutSignIns, aboutEndings, aboutSecurity, aboutAccount, aboutWarnings}
}

// Secure is the walk through what else somebody who got in may have left behind.
type Secure struct {
	Frame
	Steps []SecureStep
}

// SecureStep is one thing to look at.
type SecureStep struct {
	Title Text
	// Body is how it is now, and what to do.
	Body []Text
	Link Link
}

func (*Secure) template() string { return "secure" }
func (*Secure) title() Text      { return Msg("secure.title") }

// Data offers what an account has here as downloads. Button part: 0 is everything, any other
// number a part of the files, repo and preferences are those alone.
type Data struct {
	Frame
	// Files and Size, in bytes, are those of the account's files.
	Files int
	Size  int64
	// Parts are the downloads in which they come; none if they are in the archive.
	Parts []DataPart
}

// DataPart is a download of files.
type DataPart struct {
	Number, Files int
	Size          int64
}

// Megabytes returns a size for people; what is there has one at least.
func (*Data) Megabytes(size int64) int {
	const mega = 1_000_000
	return int((size + mega - 1) / mega)
}

func (*Data) template() string { return "data" }
func (*Data) title() Text      { return Msg("data.title") }

// Files lists an account's pictures and other files.
type Files struct {
	Frame
	Rows []FileRow
	// First: these are the first. Next is the address of those behind them; empty for none.
	First bool
	Next  string
}

// FileRow is a file.
type FileRow struct {
	// Name is its CID, Href where it is.
	Name, Href, Type string
	Size             Bytes
	// Records are keys of records that use it.
	Records []string
	// TakenDown: moderation took it down, so nobody gets it.
	TakenDown bool
}

func (*Files) template() string { return "files" }
func (*Files) title() Text      { return Msg("files.title") }
