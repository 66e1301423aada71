package proxy

import (
	"strings"

	"nestbox/auth"
)

// createAccount is the method of a service token for moving out.
const createAccount = "com.atproto.server.createAccount"

// protected reports whether a method is the account's own: no service may call
// it for the account, and a call of it is never passed on. Methods are compared
// without case, as servers route them.
func protected(method string) bool {
	name, own := cutPrefix(method, "com.atproto.")
	switch name {
	case "admin.sendemail",
		"identity.requestplcoperationsignature", "identity.signplcoperation", "identity.submitplcoperation", "identity.updatehandle",
		"server.activateaccount", "server.confirmemail", "server.createapppassword", "server.createsession",
		"server.deactivateaccount", "server.deleteaccount", "server.deletesession", "server.getaccountinvitecodes",
		"server.getserviceauth", "server.getsession", "server.listapppasswords", "server.refreshsession",
		"server.requestaccountdelete", "server.requestemailconfirmation", "server.requestemailupdate",
		"server.resetpassword", "server.revokeapppassword", "server.updateemail":
		return own
	}
	return false
}

// open reports whether a session of that scope may use a method elsewhere that is
// not protected. Direct messages and moving out are closed to app passwords that
// are not privileged; administration is closed to all app passwords and OAuth clients,
// so that an app on a moderator's account does not have its rights.
func open(scope auth.Scope, method string) bool {
	_, chat := cutPrefix(method, "chat.bsky.")
	_, admin := cutPrefix(method, "com.atproto.admin.")
	switch scope { //nolint:exhaustive // other scopes are refused by the type of the caller
	case auth.ScopeAppPass:
		return !chat && !admin && !strings.EqualFold(method, createAccount)
	case auth.ScopeAppPassPrivileged, auth.ScopeOAuth:
		return !admin
	default:
		return true
	}
}

// cutPrefix returns in lower case what follows a prefix, which is given in lower
// case.
func cutPrefix(method, prefix string) (string, bool) {
	return strings.CutPrefix(strings.ToLower(method), prefix)
}
