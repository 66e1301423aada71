package admin

import (
	"nestbox/auth"
	"nestbox/control"
	"nestbox/hosting"
)

// Command is control.Command, for callers of Do.
type Command[Args, Result any] = control.Command[Args, Result]

// The commands of the operator's protocol, each with the types of its arguments and its
// result: Commands answers them, cmd/nestbox calls them.
const (
	CmdAccountCreate      control.Command[CreateArgs, AccountLine]              = "account.create"
	CmdAccountList        control.Command[ListArgs, AccountPage]                = "account.list"
	CmdAccountInfo        control.Command[AccountArgs, AccountInfo]             = "account.info"
	CmdAccountPassword    control.Command[PasswordArgs, AccountLine]            = "account.password"
	CmdAccountSignout     control.Command[SignOutArgs, Ended]                   = "account.signout"
	CmdAccountTakedown    control.Command[TakedownArgs, AccountLine]            = "account.takedown"
	CmdAccountUntakedown  control.Command[AccountArgs, AccountLine]             = "account.untakedown"
	CmdAccountSuspend     control.Command[AccountArgs, AccountLine]             = "account.suspend"
	CmdAccountUnsuspend   control.Command[AccountArgs, AccountLine]             = "account.unsuspend"
	CmdAccountDelete      control.Command[AccountArgs, Done]                    = "account.delete"
	CmdAccountNotices     control.Command[SwitchArgs, AccountLine]              = "account.notices"
	CmdAccountCodes       control.Command[SwitchArgs, AccountLine]              = "account.codes"
	CmdAccountFactors     control.Command[FactorsArgs, FactorsLine]             = "account.factors"
	CmdAccountCode        control.Command[CodeArgs, CodeLine]                   = "account.code"
	CmdAccountSearch      control.Command[SearchArgs, AccountPage]              = "account.search"
	CmdAccountHandle      control.Command[HandleArgs, AccountLine]              = "account.handle"
	CmdAccountReset       control.Command[AccountArgs, AccountLine]             = "account.reset"
	CmdAccountInvites     control.Command[SwitchArgs, AccountLine]              = "account.invites"
	CmdAccountEmail       control.Command[EmailArgs, AccountLine]               = "account.email"
	CmdAccountMail        control.Command[MailArgs, AccountLine]                = "account.mail"
	CmdDoctor             control.Command[Done, Diagnosis]                      = "doctor"
	CmdIdentityShow       control.Command[AccountArgs, hosting.IdentityReport]  = "identity.show"
	CmdIdentityRepair     control.Command[RepairArgs, hosting.IdentityReport]   = "identity.repair"
	CmdIdentityRotate     control.Command[AccountArgs, hosting.IdentityReport]  = "identity.rotate"
	CmdInviteCreate       control.Command[InviteArgs, AccountCodes]             = "invite.create"
	CmdInviteList         control.Command[InviteListArgs, GetInviteCodesOutput] = "invite.list"
	CmdInviteDisable      control.Command[InviteDisableArgs, Disabled]          = "invite.disable"
	CmdRepoDrop           control.Command[DropArgs, DropLine]                   = "repo.drop"
	CmdTakedownSet        control.Command[ContentArgs, TakedownLine]            = "takedown.set"
	CmdTakedownList       control.Command[TakedownsArgs, TakedownPage]          = "takedown.list"
	CmdAudit              control.Command[AuditArgs, AuditPage]                 = "audit"
	CmdAdminAdd           control.Command[RoleArgs, RoleLine]                   = "admin.add"
	CmdAdminList          control.Command[Done, []RoleLine]                     = "admin.list"
	CmdAdminRemove        control.Command[AccountArgs, RoleLine]                = "admin.remove"
	CmdMailTest           control.Command[MailTestArgs, MailTested]             = "mail.test"
	CmdSessionList        control.Command[AccountArgs, []SessionLine]           = "session.list"
	CmdSessionRevoke      control.Command[SessionArgs, Done]                    = "session.revoke"
	CmdFirehoseDisconnect control.Command[DisconnectArgs, Done]                 = "firehose.disconnect"
	CmdMailRetry          control.Command[Done, MailWaiting]                    = "mail.retry"
	CmdFirehoseStatus     control.Command[Done, FirehoseStatus]                 = "firehose.status"
	CmdFirehoseJump       control.Command[JumpArgs, Jumped]                     = "firehose.jump"
	CmdClientList         control.Command[Done, []ClientLine]                   = "client.list"
	CmdClientEnd          control.Command[ClientArgs, Ended]                    = "client.end"
	CmdClientFetch        control.Command[ClientArgs, Done]                     = "client.fetch"
	CmdRelayStatus        control.Command[Done, RelayStatus]                    = "relay.status"
	CmdRelayCrawl         control.Command[RelayArgs, Done]                      = "relay.crawl"
	CmdKeysList           control.Command[Done, []Key]                          = "keys.list"
	CmdKeysRotate         control.Command[Done, auth.KeyInfo]                   = "keys.rotate"
	CmdKeysRetire         control.Command[KeyArgs, Done]                        = "keys.retire"
)
