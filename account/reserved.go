package account

import "strings"

// reservedNames are labels that nobody may take below a service domain: names
// that a host of the same domain could need, that people would take for the
// operator, or that the protocol uses. The operator can still give them (the
// admin endpoints of a later issue do not ask this list).
const reservedNames = `
at atproto atp bluesky bsky did didplc feed feedgen firehose handle jetstream labeler labeller lexicon
nestbox nsid ozone pds personaldata plc relay repo repository tid xrpc appview skyware blacksky
admin administrator administration administrators moderation moderator moderators mod mods operator
operators owner root superuser sysadmin system staff team official support help helpdesk helpcenter
service services security abuse antiabuse postmaster hostmaster webmaster mailer-daemon noreply no-reply
legal privacy terms tos policy policies copyright dmca gdpr compliance trust safety trustandsafety
billing payment payments pay checkout invoice invoices donate donations sponsor sponsors sales press media
marketing jobs careers contact contactus about aboutus info information news newsletter announcements
account accounts login logout signin signout signup sign-in sign-up register registration join auth
authentication authorize oauth oauth2 openid sso saml session sessions password passwords reset verify
verification verified confirm activate deactivate invite invites invitation profile profiles settings
preferences user users member members me my self everyone all anonymous guest nobody null undefined none
api apis app apps application applications graphql rest rpc sdk cli developer developers dev devel
documentation docs doc wiki manual guide faq kb learn status uptime health healthz metrics monitor
monitoring analytics stats statistics logs log audit debug test tests testing staging stage beta alpha
demo example examples sandbox preview canary internal intranet extranet private public local localhost
localdomain broadcasthost wpad isatap autoconfig autodiscover dns ns ns1 ns2 ns3 ns4 mx mx1 mx2 mail
mail1 mail2 email imap imap4 pop pop3 smtp smtps webmail lists list listserv mta ftp ftps sftp ssh git
svn cdn static assets asset images image img media1 files file download downloads upload uploads storage
backup backups cache proxy gateway vpn router firewall server servers node nodes cluster db database sql
mysql postgres postgresql redis s3 www www1 www2 www3 web website site sites home index host hosting
hostname domain domains subdomain tls ssl acme wellknown well-known robots sitemap favicon search explore
discover trending hashtag tag tags notifications notification messages message chat inbox outbox dm
lists1 starterpack feeds post posts comment comments like likes follow follows follower followers
following block blocks mute mutes report reports shop store market community communities group groups
forum forums blog blogs channel channels event events calendar video videos live stream streaming radio
tv podcast music game games mobile android ios iphone ipad desktop windows linux macos client clients
bot bots crawler spider webhook webhooks callback cron worker queue key keys token tokens secret secrets
config configuration setup install update updates upgrade version release releases
bank crypto wallet police government gov emergency who unicef redcross
`

func isReserved(label string) bool {
	for name := range strings.FieldsSeq(reservedNames) {
		if name == label {
			return true
		}
	}
	return false
}
