package server

import (
	"maps"
	"net/http"

	"nestbox/auth"
	"nestbox/oauth/scope"
	"nestbox/repo"
	"nestbox/xrpc"
)

// methods returns the XRPC endpoints, each with the kind of caller that it accepts.
func (s *Server) methods() map[string]xrpc.Method {
	anyone := s.verifier
	// The uses that endpoints make of the caller's account: see auth.May.
	look, manage, bring, write := anyone.For(auth.UseLook), anyone.For(auth.UseManage), anyone.For(auth.UseBring), anyone.For(auth.UseWrite).Granting()
	leave, invite, remove := anyone.For(auth.UseLeave), anyone.For(auth.UseInvite), anyone.For(auth.UseDelete)
	// What an OAuth client needs. An endpoint whose verifier says nothing of it is closed to
	// them; that of a Scoped caller finds it out from the input.
	anyGrant := func(v *auth.Verifier) *auth.Verifier { return v.Granting() }
	atAppView := func(v *auth.Verifier, method string) *auth.Verifier {
		return v.Granting(scope.NeedRPC(method, s.opts.Config.AppViewDID+"#bsky_appview"))
	}
	email, status := scope.NeedAccount(scope.Email, true), scope.NeedAccount(scope.Status, true)
	handle, identity := scope.NeedIdentity(scope.Handle), scope.NeedIdentity(scope.Any)
	all := map[string]xrpc.Method{
		"com.atproto.server.createSession":  xrpc.Procedure(anyone.Anyone, s.sessions.CreateSession),
		"com.atproto.server.refreshSession": xrpc.Procedure(anyone.Refresh, s.sessions.RefreshSession),
		"com.atproto.server.getSession":     xrpc.Query(anyGrant(look).Standard, s.sessions.GetSession),
		"com.atproto.server.deleteSession":  xrpc.Procedure(anyone.Ending, s.sessions.DeleteSession),

		"com.atproto.server.createAccount":         xrpc.Procedure(anyone.SignUp, s.hosting.CreateAccount),
		"com.atproto.server.activateAccount":       xrpc.Procedure(anyone.For(auth.UseActivate).Granting(status).Full, s.hosting.ActivateAccount),
		"com.atproto.server.deactivateAccount":     xrpc.Procedure(leave.Granting(status).FullOrTakenDown, s.hosting.DeactivateAccount),
		"com.atproto.server.checkAccountStatus":    xrpc.Query(anyGrant(look).Standard, s.hosting.CheckAccountStatus),
		"com.atproto.server.describeServer":        xrpc.Query(anyone.Anyone, s.hosting.DescribeServer),
		"com.atproto.server.deleteAccount":         xrpc.Procedure(anyone.Anyone, s.hosting.DeleteAccount),
		"com.atproto.server.getServiceAuth":        xrpc.Query(auth.ScopedBy(leave, (*auth.Verifier).StandardOrTakenDown), s.proxy.GetServiceAuth),
		"com.atproto.server.reserveSigningKey":     xrpc.Procedure(anyone.Anyone, s.hosting.ReserveSigningKey),
		"com.atproto.server.getAccountInviteCodes": xrpc.Query(invite.Full, s.invites.Own),

		"com.atproto.server.createAppPassword": xrpc.Procedure(manage.Full, s.appPasswords.Create),
		"com.atproto.server.listAppPasswords":  xrpc.Query(look.Standard, s.appPasswords.List),
		"com.atproto.server.revokeAppPassword": xrpc.Procedure(manage.Standard, s.appPasswords.Revoke),

		"com.atproto.server.requestEmailConfirmation": xrpc.Procedure(manage.Granting(email).Standard, s.emails.RequestConfirmation),
		"com.atproto.server.confirmEmail":             xrpc.Procedure(manage.Granting(email).Standard, s.emails.Confirm),
		"com.atproto.server.requestEmailUpdate":       xrpc.Procedure(manage.Full, s.emails.RequestUpdate),
		"com.atproto.server.updateEmail":              xrpc.Procedure(manage.Full, s.emails.Update),
		"com.atproto.server.requestPasswordReset":     xrpc.Procedure(anyone.Anyone, s.emails.RequestPasswordReset),
		"com.atproto.server.resetPassword":            xrpc.Procedure(anyone.Anyone, s.emails.ResetPassword),
		"com.atproto.server.requestAccountDelete":     xrpc.Procedure(remove.Full, s.emails.RequestAccountDelete),

		"com.atproto.repo.createRecord": xrpc.Procedure(write.Calling, s.repos.CreateRecord).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.putRecord":    xrpc.Procedure(write.Calling, s.repos.PutRecord).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.deleteRecord": xrpc.Procedure(write.Calling, s.repos.DeleteRecord),
		"com.atproto.repo.applyWrites":  xrpc.Procedure(write.Calling, s.repos.ApplyWrites).WithMaxBody(repo.MaxWriteBody),
		"com.atproto.repo.getRecord":    xrpc.Query(anyone.Anyone, s.repos.GetRecord).Else(repo.ErrNoRepo, s.proxy.GetRecord),
		"com.atproto.repo.listRecords":  xrpc.Query(anyone.Anyone, s.repos.ListRecords),
		"com.atproto.repo.describeRepo": xrpc.Query(anyone.Anyone, s.repos.DescribeRepo),

		"com.atproto.repo.importRepo": xrpc.Receive(bring.Granting(scope.NeedAccount(scope.OfRepo, true)).Full, s.repos.ImportRepo),

		"com.atproto.sync.getRepo":         xrpc.Stream(anyGrant(leave).Viewer, s.repos.GetRepo).CountedApart(s.repos.CountExport),
		"com.atproto.sync.getRecord":       xrpc.Stream(anyGrant(leave).Viewer, s.repos.GetProof),
		"com.atproto.sync.getBlocks":       xrpc.Stream(anyGrant(leave).Viewer, s.repos.GetBlocks),
		"com.atproto.sync.getLatestCommit": xrpc.Query(anyGrant(leave).Viewer, s.repos.GetLatestCommit),
		"com.atproto.sync.getRepoStatus":   xrpc.Query(anyone.Anyone, s.repos.GetRepoStatus),
		"com.atproto.sync.listRepos":       xrpc.Query(anyone.Anyone, s.repos.ListRepos),
		"com.atproto.sync.getHead":         xrpc.Query(anyGrant(leave).Viewer, s.repos.GetHead),
		"com.atproto.sync.getCheckout":     xrpc.Stream(anyGrant(leave).Viewer, s.repos.GetCheckout),

		"com.atproto.repo.uploadBlob":       xrpc.Receive(auth.ScopedBy(bring, (*auth.Verifier).Upload), s.blobs.UploadBlob),
		"com.atproto.repo.listMissingBlobs": xrpc.Query(anyGrant(look).Standard, s.blobs.ListMissingBlobs),
		"com.atproto.sync.getBlob":          xrpc.Stream(anyGrant(leave).Viewer, s.blobs.GetBlob),
		"com.atproto.sync.listBlobs":        xrpc.Query(anyGrant(leave).Viewer, s.blobs.ListBlobs),

		"com.atproto.identity.resolveHandle":   xrpc.Query(anyone.Anyone, s.identity.ResolveHandle),
		"com.atproto.identity.resolveDid":      xrpc.Query(anyone.Anyone, s.identity.ResolveDID),
		"com.atproto.identity.resolveIdentity": xrpc.Query(anyone.Anyone, s.identity.ResolveIdentity),
		"com.atproto.identity.updateHandle":    xrpc.Procedure(manage.Granting(handle).Standard, s.hosting.UpdateHandle),

		"com.atproto.identity.getRecommendedDidCredentials": xrpc.Query(anyGrant(look).Standard, s.hosting.GetRecommendedDIDCredentials),
		"com.atproto.identity.requestPlcOperationSignature": xrpc.Procedure(leave.Granting(identity).FullOrTakenDown, s.hosting.RequestPLCOperationSignature),
		"com.atproto.identity.signPlcOperation":             xrpc.Procedure(leave.Granting(identity).FullOrTakenDown, s.hosting.SignPLCOperation),
		"com.atproto.identity.submitPlcOperation":           xrpc.Procedure(manage.Granting(identity).Standard, s.hosting.SubmitPLCOperation),

		"com.atproto.identity.refreshIdentity": xrpc.Procedure(anyGrant(manage).Standard, s.identity.RefreshIdentity),

		"com.atproto.sync.subscribeRepos": xrpc.Stream(anyone.Anyone, s.firehose.Subscribe),

		"com.atproto.moderation.createReport": xrpc.Procedure(auth.ScopedBy(leave, (*auth.Verifier).StandardOrTakenDown), s.proxy.CreateReport),

		"app.bsky.actor.getPreferences": xrpc.Query(atAppView(leave, "app.bsky.actor.getPreferences").OwnerOrService, s.prefs.Get).Unless(s.proxy.Preferences),
		"app.bsky.actor.putPreferences": xrpc.Procedure(atAppView(manage, "app.bsky.actor.putPreferences").Standard, s.prefs.Put).Unless(s.proxy.Preferences),

		// All other methods are passed on by xrpc.Server.Pass; these have a way of their own.
		"app.bsky.feed.getFeed":                xrpc.Raw(http.MethodGet, s.proxy.GetFeed),
		"app.bsky.notification.registerPush":   xrpc.Raw(http.MethodPost, s.proxy.Push),
		"app.bsky.notification.unregisterPush": xrpc.Raw(http.MethodPost, s.proxy.Push),

		"com.atproto.temp.checkSignupQueue": xrpc.Query(look.Standard, s.hosting.CheckSignupQueue),
	}
	maps.Copy(all, s.adminMethods())
	return all
}

// adminMethods returns the endpoints for the operator and the moderators.
func (s *Server) adminMethods() map[string]xrpc.Method {
	by := s.verifier
	return map[string]xrpc.Method{
		"com.atproto.admin.updateSubjectStatus":   xrpc.Procedure(by.Moderator, s.admin.UpdateSubjectStatus),
		"com.atproto.admin.getSubjectStatus":      xrpc.Query(by.Moderator, s.admin.GetSubjectStatus),
		"com.atproto.admin.getAccountInfo":        xrpc.Query(by.Moderator, s.admin.GetAccountInfo),
		"com.atproto.admin.getAccountInfos":       xrpc.Query(by.Moderator, s.admin.GetAccountInfos),
		"com.atproto.admin.searchAccounts":        xrpc.Query(by.Moderator, s.admin.SearchAccounts),
		"com.atproto.admin.sendEmail":             xrpc.Procedure(by.Moderator, s.admin.SendEmail),
		"com.atproto.admin.updateAccountEmail":    xrpc.Procedure(by.Admin, s.admin.UpdateAccountEmail),
		"com.atproto.admin.updateAccountPassword": xrpc.Procedure(by.Admin, s.admin.UpdateAccountPassword),
		"com.atproto.admin.updateAccountHandle":   xrpc.Procedure(by.Admin, s.admin.UpdateAccountHandle),
		"com.atproto.admin.deleteAccount":         xrpc.Procedure(by.Admin, s.admin.DeleteAccount),
		"com.atproto.admin.getInviteCodes":        xrpc.Query(by.Moderator, s.admin.GetInviteCodes),
		"com.atproto.admin.disableInviteCodes":    xrpc.Procedure(by.Moderator, s.admin.DisableInviteCodes),
		"com.atproto.admin.disableAccountInvites": xrpc.Procedure(by.Moderator, s.admin.DisableAccountInvites),
		"com.atproto.admin.enableAccountInvites":  xrpc.Procedure(by.Moderator, s.admin.EnableAccountInvites),

		"com.atproto.server.createInviteCode":  xrpc.Procedure(by.Admin, s.admin.CreateInviteCode),
		"com.atproto.server.createInviteCodes": xrpc.Procedure(by.Admin, s.admin.CreateInviteCodes),
	}
}
