package web

import "time"

// Manage shows an account, row by row; each row leads to the page that changes it. Forms:
// decision notices-on and notices-off.
type Manage struct {
	Frame
	// HandleHolds: it leads to the account, and the account to it, as was found at
	// HandleChecked; zero for never.
	HandleHolds   bool
	HandleChecked time.Time
	// Email is empty for none. NoMail means that the server sends none.
	Email             string
	Confirmed, NoMail bool
	Made              time.Time
	// Notices are the mails about changes of the account.
	Notices bool
	Invites []InviteRow
}

// InviteRow is an invite code that the account may give away.
type InviteRow struct {
	Code string
	// Left is how many more people can use it; By are those who have.
	Left int
	By   []InvitedRow
}

// InvitedRow is an account that was made with an invite code.
type InvitedRow struct {
	Account
	At time.Time
}

func (*Manage) template() string { return "manage" }
func (*Manage) title() Text      { return Msg("manage.title") }

// ChangeHandle changes the handle. Forms: fields name and domain with decision here; field
// own with decision own, which shows what to do, check-own, which looks, and change; check
// looks at the present one.
type ChangeHandle struct {
	Frame
	// Domains are the endings of names here, each with its dot. Name and Domain are typed.
	Domains      []string
	Name, Domain string
	// Own is the domain of one's own that was typed; with it the page shows how to prove it.
	Own string
	// Look is what was found; nil if nothing was looked for.
	Look *HandleFound
	// Web is set for a did:web, whose document its owner must change first.
	Web bool
}

// HandleFound is what the network said about a handle.
type HandleFound struct {
	Handle string
	Holds  bool
	At     time.Time
	Lines  []FoundLine
}

// FoundLine is what one source said.
type FoundLine struct {
	Kind         Kind
	Source, Says Text
}

func (*ChangeHandle) template() string { return "handle" }
func (*ChangeHandle) title() Text      { return Msg("handle.title") }

// ChangeEmail confirms the address, or changes it. Forms: field code with decision confirm,
// decision send; field email with decision change; fields email and code with decision new.
type ChangeEmail struct {
	Frame
	Email             string
	Confirmed, NoMail bool
	// CodeSent: a code that still works was mailed to the present address.
	CodeSent bool
	// Typed is the new address as it was typed; Sent: a code is on its way to it.
	Typed string
	Sent  bool
}

func (*ChangeEmail) template() string { return "email" }
func (*ChangeEmail) title() Text      { return Msg("email.title") }

// ChangePassword sets a new password. Fields: password, if NeedsCurrent, and new_password.
type ChangePassword struct {
	Frame
	NeedsCurrent bool
}

func (*ChangePassword) template() string { return "password" }
func (*ChangePassword) title() Text      { return Msg("password.title") }

// Deactivate deactivates the account. Fields: delete, delete_on. Decision: deactivate.
type Deactivate struct {
	Frame
	// Date is the day of deletion as it was typed; Soonest the first that is accepted.
	Date, Soonest string
	Delete        bool
	// Mailed: a mail tells the owner of the day.
	Mailed bool
	// Permanent: the DID stays registered (did:plc).
	Permanent bool
}

func (*Deactivate) template() string { return "deactivate" }
func (*Deactivate) title() Text      { return Msg("deactivate.title") }

// Reactivate reactivates a deactivated account. Decision: reactivate.
type Reactivate struct{ Frame }

func (*Reactivate) template() string { return "reactivate" }
func (*Reactivate) title() Text      { return Msg("reactivate.title") }

// DeleteAccount deletes the account. Forms: decision code; fields code and handle with
// decision delete.
type DeleteAccount struct {
	Frame
	NoMail bool
	// Held: a measure of the operator forbids it.
	Held bool
	// Stuck, if not nil, is why the owner cannot prove what it takes.
	Stuck *Stuck
	// Typed is the handle as it was typed, Code the code.
	Typed, Code string
	// Permanent: the DID stays registered (did:plc).
	Permanent bool
}

func (*DeleteAccount) template() string { return "delete" }
func (*DeleteAccount) title() Text      { return Msg("delete.title") }

// ToolCodes gives out the codes that tools ask for. Form: purpose.
type ToolCodes struct {
	Frame
	// Purpose and Code are set once a code was made, which is shown once.
	Purpose, Code string
	// Digits: tools need the authenticator app's code behind it.
	Digits bool
	// Stuck, if not nil, is why the owner cannot prove what it takes.
	Stuck *Stuck
}

func (*ToolCodes) template() string { return "toolcodes" }
func (*ToolCodes) title() Text      { return Msg("toolcodes.title") }

// Purposes returns the values of the field purpose.
func (*ToolCodes) Purposes() []string { return []string{"plc_operation", "delete_account"} }

// About is about the server, and what the account uses of it.
type About struct {
	Frame
	ServerFacts
	// Files and Used are how many files the account has uploaded, and their size.
	Files int
	Used  Bytes
	// TakenDownAt is when the operator took the account down, Case their reference.
	TakenDownAt time.Time
	Case        string
}

// ServerFacts are about the server.
type ServerFacts struct {
	DID, Version string
	// UploadLimit is the largest file, Quota what all files of an account may take; 0 for no
	// limit.
	UploadLimit, Quota Bytes
	// Domains are the endings of handles here.
	Domains []string
	// Mail: the server sends mail.
	Mail bool
}

func (*About) template() string { return "about" }
func (*About) title() Text      { return Msg("about.title") }
