package web

// Message is a page without a form of its own: an error, an answer that was given
// already, a mail that was sent.
type Message struct {
	Frame
	Kind Kind
	// Title is the heading, Body a paragraph each.
	Title Text
	Body  []Text
	// Detail is for developers, shown small: a scope, a parameter, the request's id.
	Detail string
	Links  []Link
	// Post is a button that sends a form to the app; nil for none.
	Post *Post
}

// Post is a form without a field to fill in.
type Post struct {
	To     string
	Fields []Field
	Button Text
}

func (*Message) template() string { return "message" }
func (p *Message) title() Text    { return p.Title }

// FormPost sends the answer to the app by a form (response_mode=form_post): a button,
// which submit.js presses.
type FormPost struct {
	Frame
	// To is the redirect URI, Host its host.
	To, Host string
	Fields   []Field
	// Refused means that the answer is an error.
	Refused bool
}

// Field is a hidden field.
type Field struct{ Name, Value string }

func (*FormPost) template() string { return "formpost" }
func (p *FormPost) title() Text {
	if p.Refused {
		return Msg("formpost.refused")
	}
	return Msg("formpost.title")
}

// Confirm asks once more before something ends or is deleted. Decision: confirm.
type Confirm struct {
	Frame
	Title Text
	// Body describes what will happen, a paragraph each.
	Body []Text
	// Button names the act. Danger makes it red.
	Button Text
	Danger bool
	// Fields are sent along: end or take, not_me; of the security page ending and passkey.
	Fields []Field
	// Ticks are what can be done besides.
	Ticks []Tick
	// Back is where "Cancel" leads.
	Back string
}

// Tick is a tick box.
type Tick struct {
	Name string
	Text Text
}

func (*Confirm) template() string { return "confirm" }
func (p *Confirm) title() Text    { return p.Title }

// StepUp asks for a proof before an act; the act's form waits, sealed, in Kept. Fields:
// password, code, kept; ceremony and credential for a passkey. Buttons method; decision
// confirm.
type StepUp struct {
	Frame
	// For names what the proof is for.
	For Text
	// Password asks for the password. Method, if not empty, asks for a code besides it, or
	// for a passkey alone (Key); Others are further methods.
	Password bool
	Method   Method
	Others   []Method
	// Left is how many guesses are left; shown if it is above zero.
	Left int
	// Address is where the code was mailed, masked; of Email only.
	Address string
	Passkey *Passkey
	// Stuck, if not nil, is why there is no proof to ask for.
	Stuck *Stuck
	// Kept is the waiting form, sealed: the hidden field kept.
	Kept string
	// Back is where "Cancel" leads.
	Back string
}

func (*StepUp) template() string { return "stepup" }
func (*StepUp) title() Text      { return Msg("stepup.title") }
