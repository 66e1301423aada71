package auth

import (
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/xrpc"
)

// Why an account's content is shown to nobody else, as the Lexicons call it.
const (
	StatusTakendown   = "takendown"
	StatusSuspended   = "suspended"
	StatusDeactivated = "deactivated"
)

// Refused is nil where the viewer may see the content of an account, records and
// blobs: where its status is empty, and always as its owner or the admin. Else it
// is the error for the client, by the Lexicon's name: RepoTakendown,
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

// NoRepo is the error for the client where this server has no account of that
// name: RepoNotFound.
func NoRepo(name string) *xrpc.Error {
	return xrpc.BadRequest("RepoNotFound", "Could not find repo for DID: "+name)
}
