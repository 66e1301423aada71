package conformance

import "slices"

// checks returns all of them, in the order in which they run: some use what earlier ones
// have found.
func checks() []check {
	return slices.Concat(serverChecks, signInChecks, tokenChecks, accessChecks, refreshChecks, signOutChecks, httpChecks, oauthChecks)
}

// names are those of errors, as the Lexicons and the reference have them.
const (
	invalidToken = "InvalidToken"
	expiredToken = "ExpiredToken"
	authMissing  = "AuthMissing"
	badInput     = "InvalidRequest"
)

var serverChecks = []check{
	{
		name: "server.describe", expects: "describeServer answers with the server's DID and the domains of its handles",
		why:   "the Lexicon requires both; apps ask for them before they show a sign-in",
		calls: 1, run: describes,
	},
	{
		name: "server.resolve-handle", expects: "resolveHandle leads from the session's handle to its DID",
		why:   "AtpAgent and others resolve the handle again and compare",
		calls: 1, run: resolves,
	},
}

var signInChecks = []check{
	{
		name: "sign-in.answer", expects: "createSession answers JSON with accessJwt, refreshJwt, handle and did",
		why: "the Lexicon requires them; SDKs discard an answer that lacks one",
		run: signInAnswer,
	},
	{
		name: "sign-in.did-doc", expects: "didDoc, if it is there, names the DID, the handle and this server",
		why: "SDKs send everything after the sign-in to the endpoint in it",
		run: didDoc,
	},
	{
		name: "sign-in.identifiers", expects: "the DID and the handle in capitals open a session, too",
		why:   "handles have no case, and apps sign in by the DID that they keep",
		calls: 2, tokens: 2, run: identifiers,
	},
	{
		name: "sign-in.email", expects: "the account's e-mail address opens a session",
		why:   "people type it: the official app's form asks for a user name or an e-mail address",
		calls: 1, tokens: 1, run: signInByEmail,
	},
	{
		name: "sign-in.unknown-members", expects: "createSession ignores a member that it does not know",
		why:   "unknown fields are ignored, says the specification of Lexicon: clients may be newer than servers",
		calls: 1, tokens: 1, run: unknownMembers,
	},
	{
		name: "sign-in.wrong-password", expects: "a wrong password is 401 AuthenticationRequired",
		why:   "clients tell it from a fault of the server or the network by that",
		calls: 1, tokens: 1, run: wrongPassword,
	},
	{
		name: "sign-in.unknown-account", expects: "an unknown handle gets the answer of a wrong password, byte for byte",
		why:   "the difference shows strangers who has an account",
		calls: 1, tokens: 1, run: unknownAccount,
	},
	{
		name: "sign-in.malformed", expects: "an input that is not JSON, or lacks the password, is 400",
		why:   "5xx makes clients try again; the error's name shows developers what is wrong",
		calls: 2, tokens: 2, run: malformedSignIn,
	},
}

var tokenChecks = []check{
	{
		name: "tokens.form", expects: "both are JWTs with whole seconds in iat and exp, and the account's DID in sub",
		why: "SDKs decode exp unguarded, to refresh in time",
		run: tokenForm,
	},
	{
		name: "tokens.claims", expects: "scope, aud, typ and the refresh token's jti are as the reference PDS has them",
		why: "clients and proxies that look into tokens know these",
		run: tokenClaims,
	},
	{
		name: "tokens.lives", expects: "access tokens live 20 minutes to a day, refresh tokens two weeks or more, by the right clock",
		why: "one SDK refreshes 15 minutes early on every call, and clients compare exp with their own clock",
		run: tokenLives,
	},
}

var accessChecks = []check{
	{
		name: "get-session.answer", expects: "getSession answers JSON with the handle and the DID of the sign-in",
		why:   "the Lexicon requires both",
		calls: 1, run: getSessionAnswer,
	},
	{
		name: "get-session.head", expects: "HEAD is answered as GET is, without a body",
		why:   "HTTP (RFC 9110, section 9.3.2)",
		calls: 1, run: headSession,
	},
	{
		name: "get-session.method", expects: "getSession by POST, and createSession and refreshSession by GET, are 400 or 405",
		why:   "a prefetch must not refresh, and a client's mistake must not look like a fault of the server",
		calls: 3, tokens: 1, run: wrongMethods,
	},
	{
		name: "access.missing", expects: "a call without Authorization is 401 AuthMissing",
		why:   "clients must see that they sent nothing, not that their session has ended",
		calls: 2, run: missingAuth,
	},
	{
		name: "access.scheme", expects: "an Authorization header that is not of the form is 400 or 401, never 5xx",
		why:   "a client's mistake must not look like a fault of the server",
		calls: 3, run: malformedAuth,
	},
	{
		name: "access.forged", expects: "getSession refuses tokens that the server has not signed as 400 InvalidToken",
		why:   "a server that accepts one opens every account; clients that read ExpiredToken refresh for ever",
		calls: 6, run: forgedAccess,
	},
	{
		name: "access.refresh-token", expects: "getSession refuses a refresh token as 400 InvalidToken",
		why:   "a refresh token lives for months, and is to go to refreshSession alone",
		calls: 1, run: refreshTokenAtGetSession,
	},
}

var refreshChecks = []check{
	{
		name: "refresh.answer", expects: "refreshSession answers JSON with a new pair that works, handle and did",
		why:   "the Lexicon requires them; a changed DID makes SDKs drop the session",
		calls: 2, tokens: 1, run: refreshAnswer,
	},
	{
		name: "refresh.rotates", expects: "the new refresh token is another one",
		why: "a token that is used up shows when a copy of it is used",
		run: rotates,
	},
	{
		name: "refresh.lost-answer", expects: "the same refresh token again, right after, gives a session that works",
		why:   "an answer is lost on its way, and the client has nothing else: refusing signs a person out",
		calls: 6, tokens: 4, run: lostAnswer,
	},
	{
		name: "refresh.at-once", expects: "eight refreshes at once with one token all succeed, and lead to one session",
		why:   "tabs that open together do that: AtpAgent.resumeSession always refreshes",
		calls: 5 + atOnce, tokens: 3 + atOnce, run: refreshesAtOnce,
	},
	{
		name: "refresh.stale-tab", expects: "a refresh token whose successor was used, too, works for a while, and ends nothing",
		why:   "a tab that slept has that one; in any case the newest must go on",
		calls: 6, tokens: 5, run: staleTab,
	},
	{
		name: "refresh.missing", expects: "refreshSession without Authorization is 401 AuthMissing",
		why:   "clients must see that they sent nothing, not that their session has ended",
		calls: 1, run: refreshMissing,
	},
	{
		name: "refresh.access-token", expects: "refreshSession refuses an access token as 400 InvalidToken",
		why:   "a stolen access token must not open a session that lasts",
		calls: 1, tokens: 1, run: accessTokenAtRefresh,
	},
	{
		name: "refresh.forged", expects: "refreshSession refuses tokens that the server has not signed as 400 InvalidToken",
		why:   "a server that accepts one opens every account",
		calls: 6, tokens: 6, run: forgedRefresh,
	},
	{
		name: "refresh.no-input", expects: "refreshSession accepts an empty body with a Content-Type, and {}",
		why:   "HTTP helpers and proxies add them, and the person is signed out",
		calls: 2, tokens: 2, run: noInput,
	},
	{
		name: "refresh.ignored", expects: "refreshSession ignores unknown parameters and the header atproto-proxy",
		why:   "agents that are set up for an AppView send the header with every call",
		calls: 1, tokens: 1, run: ignoredAtRefresh,
	},
	{
		name: "answers.active", expects: "active is a boolean, and comes with status if it is false",
		why: "indigo crashes at false without status; apps show what is wrong with the account by it",
		run: activeMembers,
	},
	{
		name: "answers.members", expects: "the three answers have didDoc, email, emailConfirmed, emailAuthFactor and active",
		why: "two SDKs make another call if one is missing",
		run: optionalMembers,
	},
	{
		name: "answers.private", expects: "answers of refreshSession and getSession are Cache-Control: private or no-store",
		why: "a shared cache would give one account's session to another",
		run: privateAnswers,
	},
}

var signOutChecks = []check{
	{
		name: "sign-out.access-token", expects: "deleteSession refuses an access token",
		why:   "the Lexicon: it needs the refresh token",
		calls: 1, run: accessTokenAtSignOut,
	},
	{
		name: "sign-out.answer", expects: "deleteSession answers 200, also when the session has ended already",
		why:   "a sign-out whose answer was lost is repeated",
		calls: 4, tokens: 2, run: signOut,
	},
	{
		name: "sign-out.refresh", expects: "after it the refresh token is 400 ExpiredToken",
		why:   "SDKs drop a session at that name, and keep it at others, for ever",
		calls: 1, tokens: 1, run: endedRefresh,
	},
	{
		name: "sign-out.access", expects: "after it the access token is 400 ExpiredToken “Token has expired”, in at most 81 bytes",
		why:   "signed out means signed out; one SDK refreshes at that message alone, one at short answers alone",
		calls: 1, run: endedAccess,
	},
	{
		name: "sign-out.predecessor", expects: "after it the refresh token before that one does not bring the session back",
		why:   "a copy that stayed behind would undo the sign-out",
		calls: 1, tokens: 1, run: endedPredecessor,
	},
	{
		name: "sign-out.others", expects: "after it the account's other sessions go on",
		why:   "a sign-out on one device must not sign out the others",
		calls: 2, tokens: 1, run: othersLive,
	},
}

var httpChecks = []check{
	{
		name:    "cors.preflight",
		expects: "a preflight of refreshSession allows POST with Authorization, Content-Type and atproto-proxy from any origin",
		why:     "apps in browsers cannot refresh without it; * does not cover Authorization",
		calls:   1, run: preflight,
	},
	{
		name: "cors.answers", expects: "every answer has Access-Control-Allow-Origin, errors as well",
		why: "a browser hides an answer without it, and the app takes that for a fault of the network",
		run: corsAnswers,
	},
	{
		name: "cors.exposed", expects: "scripts may read Retry-After and the rate limits",
		why: "a client that cannot read how long to wait comes too early",
		run: corsExposed,
	},
	{
		name: "errors.form", expects: "every error is JSON with the texts error and message, and none is 5xx",
		why: "the XRPC specification; SDKs decide by the name whether to drop a session",
		run: errorForm,
	},
	{
		name: "errors.content-type", expects: "errors are application/json without parameters",
		why: "one SDK compares the whole header, and does not refresh otherwise",
		run: errorType,
	},
	{
		name:    "rate-limits.headers",
		expects: "RateLimit-Limit, -Remaining, -Reset and Retry-After, if they are there, are whole numbers, Reset of seconds since 1970",
		why:     "clients wait by them: Reset is a time at the reference PDS",
		run:     rateLimits,
	},
}
