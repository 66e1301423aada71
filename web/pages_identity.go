package web

import "time"

// Identity shows who controls an account's permanent number. Forms: fields key and place (above
// or below) with decision add; button remove with a key.
type Identity struct {
	Frame
	// Silent: the directory does not answer, so nothing is known. Ended: it knows no such
	// number, or one that was ended.
	Silent, Ended bool
	// Keys are the rotation keys, the strongest first. Ours: this server's is among them. Fits:
	// the number names this server, and the account's handle and key.
	Keys       []KeyRow
	Ours, Fits bool
	// Full: there is no room for another key.
	Full bool
	// Above is set if that was chosen.
	Above bool
	// Steps are the newest changes, the newest first; Total is how many there are. LogMissing:
	// they could not be read. Head names the newest.
	Steps      []IdentityStep
	Total      int
	LogMissing bool
	Head       string
	// Document is what the owner of a did:web serves; empty for any other.
	Document string
}

// KeyRow is a rotation key.
type KeyRow struct {
	Key string
	// Holder is who has it: server, operator, owner or unknown.
	Holder string
	// Owns: it is stronger than this server's.
	Owns bool
	// Since is when it came, Added when the owner added it; zero for not known.
	Since, Added time.Time
	// Mark is added or removed in a change; empty otherwise.
	Mark string
}

// IdentityStep is a change of the number.
type IdentityStep struct {
	At      time.Time
	Changes []Text
	// By is who signed it; Undo who can undo it until when. Both may be empty. Undone: somebody
	// did.
	By, Undo Text
	Undone   bool
}

// More returns how many changes are not shown.
func (p *Identity) More() int { return p.Total - len(p.Steps) }

func (*Identity) template() string { return "identity" }
func (*Identity) title() Text      { return Msg("identity.title") }

// IdentityChange shows a change of the rotation keys before it is sent. Fields: change (add or
// remove), key, place and head, with decision send.
type IdentityChange struct {
	Frame
	Change, Key, Place, Head string
	// Keys are those before and after it, the strongest first.
	Keys []KeyRow
	// Warnings are what the owner should know.
	Warnings []Text
	// Host is where the account lives, which stays.
	Host string
	// Danger: it cannot be undone here.
	Danger bool
}

func (*IdentityChange) template() string { return "identitychange" }
func (*IdentityChange) title() Text      { return Msg("identity.change-title") }
