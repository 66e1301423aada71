package auth

import (
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/xrpc"
)

// Why an account's content is shown only to its owner and the admin, as the
// Lexicons name it.
const (
	StatusTakendown   = "takendown"
	StatusSuspended   = "suspended"
	StatusDeactivated = "deactivated"
)

// Refused returns nil if the viewer may see the content of an account, records and
// blobs: if its status is empty, and always as its owner or the admin. Otherwise it
// returns the error for the client, by the Lexicon's name: RepoTakendown,
// RepoSuspended, RepoDeactivated.
func (v Viewer) Refused(did syntax.DID, status string) error {
	switch {
	case status == "" || v.Sees(did):
		return nil
	case status == StatusTakendown:
		return xrpc.BadRequest("RepoTakendown", "Repo has been takendown: "+did.String())
	case status == StatusSuspended:
		return xrpc.BadRequest("RepoSuspended", "Repo has been suspended: "+did.String())
	default:
		return xrpc.BadRequest("RepoDeactivated", "Repo has been deactivated: "+did.String())
	}
}

// NoRepo returns the error for the client if this server has no account of that
// name: RepoNotFound.
func NoRepo(name string) *xrpc.Error {
	return xrpc.BadRequest("RepoNotFound", "Could not find repo for DID: "+name)
}
