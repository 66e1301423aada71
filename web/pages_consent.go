package web

// Consent asks whether an app may do what it asks for: the step consent. Fields:
// permission (the ticked ones), understood. Decisions: allow, deny, switch.
type Consent struct {
	Frame
	// Destination is the host that the answer goes to; empty if it is the client's own.
	Destination string
	// Permissions are the lines; the dangerous ones are shown in a box of their own, with
	// the tick "I understand".
	Permissions []Permission
	// Unknown are scopes that were asked for and that this server does not offer.
	Unknown []string
	// Understood is the state of its tick box.
	Understood bool
}

func (*Consent) template() string { return "consent" }

func (p *Consent) title() Text {
	if p.Client == nil {
		return Msg("consent.title", "app", Msg("client.loopback"))
	}
	return Msg("consent.title", "app", p.Client.label())
}

// Permission is one thing that an app may do.
type Permission struct {
	// Scope is the scope as it was requested, the value of the tick box.
	Scope string
	// Line names what it allows. Detail is a second line; may be empty.
	Line, Detail Text
	// Fixed means that it cannot be unticked, Ticked is the state of a tick box.
	Fixed, Ticked bool
	// Broad marks a permission that allows nearly everything, Danger one that can harm the
	// account for good.
	Broad, Danger bool
	// Publisher is the domain that publishes a permission set, Members what it expands to,
	// as scopes.
	Publisher string
	Members   []string
}

// maxMembers is how many members of its permission sets a page shows: some sets have
// thousands, and a page has its limit.
const maxMembers = 200

// Shown returns the members that the page shows, More how many there are besides.
func (p Permission) Shown() []string { return p.Members[:min(len(p.Members), maxMembers)] }

// More returns how many members the page does not show.
func (p Permission) More() int { return len(p.Members) - len(p.Shown()) }

// Safe returns the permissions that are not dangerous.
func (p *Consent) Safe() []Permission { return p.which(false) }

// Dangerous returns the permissions of the warning box.
func (p *Consent) Dangerous() []Permission { return p.which(true) }

func (p *Consent) which(danger bool) (out []Permission) {
	for _, one := range p.Permissions {
		if one.Danger == danger {
			out = append(out, one)
		}
	}
	return out
}
