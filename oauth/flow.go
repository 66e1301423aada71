package oauth

import (
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// Step is a page of the interactive flow. Its text is the form's field of that name.
type Step string

// The steps.
const (
	StepAccount     Step = "account"
	StepSignIn      Step = "sign-in"
	StepFactor      Step = "factor"
	StepSignUp      Step = "sign-up"
	StepDeactivated Step = "deactivated"
	StepConsent     Step = "consent"
)

// Here is an account that is signed in on the browser, or that the flow has proven.
type Here struct {
	ID     int64
	DID    syntax.DID
	Handle syntax.Handle
	Email  string
	Status account.Status
	// At is when its owner signed in.
	At time.Time
	// Fresh means that the password need not be asked again.
	Fresh bool
	// Lacks means that a second factor is wanted that the sign-in did not have: it was
	// turned on since, or the browser is not trusted any more.
	Lacks bool
	// Remembered means that the owner allowed the client before all that it asks for now.
	Remembered bool
}

// Wish is what the person chose on the way, beside proving who they are.
type Wish string

// The wishes.
const (
	WishNone Wish = ""
	// WishOther: to sign in to another account than those that are here.
	WishOther Wish = "other"
	// WishChoose: to choose among those that are here.
	WishChoose Wish = "choose"
	// WishSignUp and WishSignIn: to make an account, and not to.
	WishSignUp Wish = "sign-up"
	WishSignIn Wish = "sign-in"
)

// Ask is all that decides what comes next in the flow of a request.
type Ask struct {
	Prompt Prompt
	// MaxAge is how old a sign-in may be; negative for any age.
	MaxAge time.Duration
	// Remembers: the client can prove who it is, so that what was allowed before need not be
	// asked again.
	Remembers bool
	// Silent: an answer without a tap reaches the client.
	Silent bool
	// SignUp: people can make accounts here.
	SignUp bool
	// Hint is the account that login_hint names; nil for none. HintLost means that it names one that
	// is not here, HintText what to fill into the form.
	Hint     *syntax.DID
	HintLost bool
	HintText string
	// Here are the accounts that are signed in on the browser.
	Here []Here
	// Proven is the account that the person chose or signed in to in this flow, nil for none
	// yet; InFlow means signed in, not chosen.
	Proven *Here
	InFlow bool
	// Wish is what the person chose on the last page. GoOn: to go on with a deactivated account as
	// it is.
	Wish Wish
	GoOn bool
	Now  time.Time
}

// Next is what comes next: a page, a silent answer, or an error for the client.
type Next struct {
	// Step is the page; empty for none.
	Step Step
	// Who names the account that the page is about; nil for none yet. On the sign-in page it is the only
	// one that may sign in.
	Who *Here
	// Fill is put into the sign-in form if Who is nil.
	Fill string
	// Lost means that login_hint named an account that is not here, Closed that nobody can sign
	// up here: the page says so.
	Lost   bool
	Closed bool
	// Allowed means that the client gets all that it asks for, without a page.
	Allowed bool
	// Error and Description are for the client; empty for none.
	Error       string
	Description string
}

// Decide is the contract's table of prompts: what comes next. It is pure.
func (a Ask) Decide() Next {
	if a.Prompt.None {
		return a.silently()
	}
	if n, ok := a.atOnce(); ok {
		return n
	}
	who, n := a.subject()
	if a.Proven != nil && a.Proven.Status == account.TakenDown {
		who = a.Proven // whatever else proved them
	}
	if who == nil {
		return n
	}
	switch {
	case who.Status == account.TakenDown:
		return Next{Error: codeAccessDenied, Description: takenDown}
	case who.Status == account.Deactivated && !a.GoOn:
		return Next{Step: StepDeactivated, Who: who}
	case a.Proven != nil && a.Remembers && who.Remembered && !a.Prompt.Consent && who.Status != account.Suspended: // they are shown that
		return Next{Allowed: true, Who: who}
	default:
		return Next{Step: StepConsent, Who: who}
	}
}

// takenDown describes the error of an account that was taken down while its request was open.
const takenDown = "The account has been taken down"

// silently is prompt=none: no page is shown.
func (a Ask) silently() Next {
	fail := func(code, description string) Next { return Next{Error: code, Description: description} }
	if !a.Remembers || !a.Silent {
		return fail(codeConsentRequired, "Consent is required")
	}
	of := a.hinted()
	switch {
	case len(of) == 0:
		return fail(codeLoginRequired, "Nobody is signed in")
	case len(of) > 1:
		return fail(codeSelectionRequired, "Several accounts are signed in")
	}
	who := &of[0]
	switch {
	case !a.isRecent(who):
		return fail(codeLoginRequired, "The sign-in is too old")
	case who.Status == account.TakenDown:
		return fail(codeLoginRequired, "Nobody is signed in")
	case who.Lacks:
		return fail(codeInteractionRequired, "A second factor is required")
	case who.Status != account.Active:
		return fail(codeInteractionRequired, "The account is not active")
	case !who.Remembered:
		return fail(codeConsentRequired, "Consent is required")
	}
	return Next{Allowed: true, Who: who}
}

// atOnce is a request without prompt whose answer is known, before any page.
func (a Ask) atOnce() (Next, bool) {
	if a.Prompt != (Prompt{}) || !a.Remembers || !a.Silent || a.Proven != nil || a.Wish != WishNone || !a.hasHint() {
		return Next{}, false
	}
	of := a.hinted()
	if len(of) != 1 || !a.IsFresh(&of[0]) || of[0].Status != account.Active || !of[0].Remembered {
		return Next{}, false
	}
	return Next{Allowed: true, Who: &of[0]}, true
}

func (a Ask) hasHint() bool { return a.Hint != nil || a.HintLost || a.HintText != "" }

// hinted returns the accounts here that login_hint names; without a hint all of them.
func (a Ask) hinted() []Here {
	if !a.hasHint() {
		return a.Here
	}
	var of []Here
	for _, h := range a.Here {
		if a.Hint != nil && h.DID == *a.Hint || a.Hint == nil && a.HintText != "" && account.EmailKey(h.Email) == account.EmailKey(a.HintText) {
			of = append(of, h)
		}
	}
	return of
}

// IsFresh reports whether a sign-in suffices: it has all factors, and is as new as this server
// and the client want it.
func (a Ask) IsFresh(h *Here) bool { return !h.Lacks && a.isRecent(h) }

func (a Ask) isRecent(h *Here) bool {
	return h.Fresh && (a.MaxAge < 0 || a.Now.Sub(h.At).Abs() <= a.MaxAge)
}

// subject returns the account that the request is about, or the page that finds it out.
func (a Ask) subject() (*Here, Next) {
	if who := a.Proven; who != nil {
		if !a.InFlow && (!a.IsFresh(who) || a.Prompt.Login) {
			return nil, Next{Step: StepSignIn, Who: who}
		}
		return who, Next{}
	}
	if a.Wish == WishSignUp || a.Prompt.Create && a.Wish == WishNone {
		if a.SignUp {
			return nil, Next{Step: StepSignUp}
		}
		n := a.signIn()
		n.Closed = true
		return nil, n
	}
	if (a.Wish == WishChoose || a.Wish == WishNone && a.Prompt.SelectAccount) && len(a.Here) > 0 {
		return nil, Next{Step: StepAccount}
	}
	if a.Wish != WishNone {
		return nil, a.signIn()
	}
	of := a.hinted()
	switch {
	case !a.hasHint() && len(of) > 1 && !a.Prompt.Login:
		return nil, Next{Step: StepAccount}
	case len(of) == 1 && a.IsFresh(&of[0]) && !a.Prompt.Login:
		return &of[0], Next{}
	case len(of) == 1 && !a.hasHint():
		n := a.signIn()
		n.Fill = of[0].Handle.String()
		return nil, n
	default:
		return nil, a.signIn()
	}
}

// signIn is the page of that name. A hint of an account of this server is the only one that may sign
// in, unless the person wants another.
func (a Ask) signIn() Next {
	n := Next{Step: StepSignIn, Fill: a.HintText, Lost: a.HintLost}
	if a.Hint == nil || a.Wish == WishOther || a.Wish == WishChoose {
		return n
	}
	n.Fill = ""
	if i := slices.IndexFunc(a.Here, func(h Here) bool { return h.DID == *a.Hint }); i >= 0 {
		n.Who = &a.Here[i]
	} else {
		n.Who = &Here{DID: *a.Hint}
	}
	return n
}
