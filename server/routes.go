package server

import (
	"maps"

	"nestbox/account"
	"nestbox/proxy"
	"nestbox/repo"
	"nestbox/xrpc"
)

// methods are the XRPC endpoints, each with the kind of caller that it takes.
func (s *Server) methods() map[string]xrpc.Method {
	auth := s.verifier
	appPasswords := &account.AppPasswords{Store: s.accounts, Notices: s.notices, Now: s.opts.Now}
	serviceAuth := &proxy.ServiceAuth{Accounts: s.accounts, Keys: s.keys, Now: s.opts.Now}
	all := map[string]xrpc.Method{
		"com.atproto.server.createSession":  xrpc.Procedure(auth.Anyone, s.sessions.CreateSession),
		"com.atproto.server.refreshSession": xrpc.Procedure(auth.Refresh, s.sessions.RefreshSession),
		"com.atproto.server.getSession":     xrpc.Query(auth.Standard, s.sessions.GetSession),
		"com.atproto.server.deleteSession":  xrpc.Procedure(auth.Ending, s.sessions.DeleteSession),

		"com.atproto.server.createAccount":         xrpc.Procedure(auth.SignUp, s.hosting.CreateAccount),
		"com.atproto.server.activateAccount":       xrpc.Procedure(auth.Full, s.hosting.ActivateAccount),
		"com.atproto.server.deactivateAccount":     xrpc.Procedure(auth.FullOrTakendown, s.hosting.DeactivateAccount),
		"com.atproto.server.checkAccountStatus":    xrpc.Query(auth.Standard, s.hosting.CheckAccountStatus),
		"com.atproto.server.describeServer":        xrpc.Query(auth.Anyone, s.hosting.DescribeServer),
		"com.atproto.server.deleteAccount":         xrpc.Procedure(auth.Anyone, s.hosting.DeleteAccount),
		"com.atproto.server.getServiceAuth":        xrpc.Query(auth.StandardOrTakendown, serviceAuth.Get),
		"com.atproto.server.reserveSigningKey":     xrpc.Procedure(auth.Anyone, s.hosting.ReserveSigningKey),
		"com.atproto.server.getAccountInviteCodes": xrpc.Query(auth.Full, s.invites.Own),

		"com.atproto.server.createAppPassword": xrpc.Procedure(auth.Full, appPasswords.Create),
		"com.atproto.server.listAppPasswords":  xrpc.Query(auth.Standard, appPasswords.List),
		"com.atproto.server.revokeAppPassword": xrpc.Procedure(auth.Standard, appPasswords.Revoke),

		"com.atproto.server.requestEmailConfirmation": xrpc.Procedure(auth.Standard, s.emails.RequestConfirmation),
		"com.atproto.server.confirmEmail":             xrpc.Procedure(auth.Standard, s.emails.Confirm),
		"com.atproto.server.requestEmailUpdate":       xrpc.Procedure(auth.Full, s.emails.RequestUpdate),
		"com.atproto.server.updateEmail":              xrpc.Procedure(auth.Full, s.emails.Update),
		"com.atproto.server.requestPasswordReset":     xrpc.Procedure(auth.Anyone, s.emails.RequestPasswordReset),
		"com.atproto.server.resetPassword":            xrpc.Procedure(auth.Anyone, s.emails.ResetPassword),
		"com.atproto.server.requestAccountDelete":     xrpc.Procedure(auth.Full, s.emails.RequestAccountDelete),

		"com.atproto.repo.createRecord": xrpc.Procedure(auth.Standard, s.repos.CreateRecord).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.putRecord":    xrpc.Procedure(auth.Standard, s.repos.PutRecord).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.deleteRecord": xrpc.Procedure(auth.Standard, s.repos.DeleteRecord),
		"com.atproto.repo.applyWrites":  xrpc.Procedure(auth.Standard, s.repos.ApplyWrites).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.getRecord":    xrpc.Query(auth.Anyone, s.repos.GetRecord),
		"com.atproto.repo.listRecords":  xrpc.Query(auth.Anyone, s.repos.ListRecords),
		"com.atproto.repo.describeRepo": xrpc.Query(auth.Anyone, s.repos.DescribeRepo),

		"com.atproto.repo.importRepo": xrpc.Receive(auth.Full, s.repos.ImportRepo),

		"com.atproto.sync.getRepo":         xrpc.Stream(auth.Viewer, s.repos.GetRepo).CountedApart(s.repos.CountExport),
		"com.atproto.sync.getRecord":       xrpc.Stream(auth.Viewer, s.repos.GetProof),
		"com.atproto.sync.getBlocks":       xrpc.Stream(auth.Viewer, s.repos.GetBlocks),
		"com.atproto.sync.getLatestCommit": xrpc.Query(auth.Viewer, s.repos.GetLatestCommit),
		"com.atproto.sync.getRepoStatus":   xrpc.Query(auth.Anyone, s.repos.GetRepoStatus),
		"com.atproto.sync.listRepos":       xrpc.Query(auth.Anyone, s.repos.ListRepos),
		"com.atproto.sync.getHead":         xrpc.Query(auth.Viewer, s.repos.GetHead),
		"com.atproto.sync.getCheckout":     xrpc.Stream(auth.Viewer, s.repos.GetCheckout),

		"com.atproto.repo.uploadBlob":       xrpc.Receive(auth.Upload, s.blobs.UploadBlob),
		"com.atproto.repo.listMissingBlobs": xrpc.Query(auth.Standard, s.blobs.ListMissingBlobs),
		"com.atproto.sync.getBlob":          xrpc.Stream(auth.Viewer, s.blobs.GetBlob),
		"com.atproto.sync.listBlobs":        xrpc.Query(auth.Viewer, s.blobs.ListBlobs),

		"com.atproto.identity.resolveHandle":   xrpc.Query(auth.Anyone, s.identity.ResolveHandle),
		"com.atproto.identity.resolveDid":      xrpc.Query(auth.Anyone, s.identity.ResolveDID),
		"com.atproto.identity.resolveIdentity": xrpc.Query(auth.Anyone, s.identity.ResolveIdentity),
		"com.atproto.identity.updateHandle":    xrpc.Procedure(auth.Standard, s.hosting.UpdateHandle),

		"com.atproto.identity.getRecommendedDidCredentials": xrpc.Query(auth.Standard, s.hosting.GetRecommendedDIDCredentials),
		"com.atproto.identity.requestPlcOperationSignature": xrpc.Procedure(auth.FullOrTakendown, s.hosting.RequestPLCOperationSignature),
		"com.atproto.identity.signPlcOperation":             xrpc.Procedure(auth.FullOrTakendown, s.hosting.SignPLCOperation),
		"com.atproto.identity.submitPlcOperation":           xrpc.Procedure(auth.Standard, s.hosting.SubmitPLCOperation),

		"com.atproto.identity.refreshIdentity": xrpc.Procedure(auth.Standard, s.identity.RefreshIdentity),

		"com.atproto.sync.subscribeRepos": xrpc.Stream(auth.Anyone, s.firehose.Subscribe),

		"com.atproto.moderation.createReport": xrpc.Procedure(auth.StandardOrTakendown, s.reports.Create),

		"app.bsky.actor.getPreferences": xrpc.Query(auth.OwnerOrService, s.prefs.Get),
		"app.bsky.actor.putPreferences": xrpc.Procedure(auth.Standard, s.prefs.Put),
	}
	maps.Copy(all, s.adminMethods())
	return all
}

// adminMethods are those for the operator and the moderators.
func (s *Server) adminMethods() map[string]xrpc.Method {
	auth := s.verifier
	return map[string]xrpc.Method{
		"com.atproto.admin.updateSubjectStatus":   xrpc.Procedure(auth.Moderator, s.admin.UpdateSubjectStatus),
		"com.atproto.admin.getSubjectStatus":      xrpc.Query(auth.Moderator, s.admin.GetSubjectStatus),
		"com.atproto.admin.getAccountInfo":        xrpc.Query(auth.Moderator, s.admin.GetAccountInfo),
		"com.atproto.admin.getAccountInfos":       xrpc.Query(auth.Moderator, s.admin.GetAccountInfos),
		"com.atproto.admin.searchAccounts":        xrpc.Query(auth.Moderator, s.admin.SearchAccounts),
		"com.atproto.admin.sendEmail":             xrpc.Procedure(auth.Moderator, s.admin.SendEmail),
		"com.atproto.admin.updateAccountEmail":    xrpc.Procedure(auth.Admin, s.admin.UpdateAccountEmail),
		"com.atproto.admin.updateAccountPassword": xrpc.Procedure(auth.Admin, s.admin.UpdateAccountPassword),
		"com.atproto.admin.updateAccountHandle":   xrpc.Procedure(auth.Admin, s.admin.UpdateAccountHandle),
		"com.atproto.admin.deleteAccount":         xrpc.Procedure(auth.Admin, s.admin.DeleteAccount),
		"com.atproto.admin.getInviteCodes":        xrpc.Query(auth.Moderator, s.admin.GetInviteCodes),
		"com.atproto.admin.disableInviteCodes":    xrpc.Procedure(auth.Moderator, s.admin.DisableInviteCodes),
		"com.atproto.admin.disableAccountInvites": xrpc.Procedure(auth.Moderator, s.admin.DisableAccountInvites),
		"com.atproto.admin.enableAccountInvites":  xrpc.Procedure(auth.Moderator, s.admin.EnableAccountInvites),

		"com.atproto.server.createInviteCode":  xrpc.Procedure(auth.Admin, s.admin.CreateInviteCode),
		"com.atproto.server.createInviteCodes": xrpc.Procedure(auth.Admin, s.admin.CreateInviteCodes),
	}
}
