package web

import "nestbox/admin"

// ActName is an action.
type ActName struct {
	// Path is a Route's.
	Name, Path string
	Role       admin.Role
	Fresh      bool
}

// ActNames returns all actions. Those that undo others follow them.
func ActNames() (out []ActName) {
	for _, a := range acts() {
		path := DeskPath + a.part
		if a.part == partAccount {
			path = accountPath("{did}")
		}
		out = append(out, ActName{a.name, path, a.role, a.fresh})
	}
	return out
}

// DeskPaths returns all pages below /admin.
func DeskPaths() (out []ActName) {
	for _, part := range deskParts() {
		out = append(out, ActName{Name: part.name, Path: part.path(), Role: part.role})
	}
	return append(out, ActName{Name: partAccount, Path: accountPath("{did}"), Role: admin.RoleModerator})
}
