package request

import (
	"context"
	"log/slog"
	"slices"
)

// The events that the log has a line for, by the names that the reference PDS gives them.
const (
	EventAccountCreated   = "account.created"
	EventSignedIn         = "account.signed-in"
	EventSessionCreated   = "session.created"
	EventSessionRefreshed = "session.refreshed"
	EventAuthorized       = "oauth.authorized"
)

// The words for what led to an event, and for what is counted by it. The last two are not the
// reference's.
const (
	SourceCreateAccount  = "com.atproto.server.createAccount"
	SourceCreateSession  = "com.atproto.server.createSession"
	SourceRefreshSession = "com.atproto.server.refreshSession"
	SourceOAuth          = "oauth"
	SourcePages          = "pages"
	SourceOperator       = "operator"
)

// Event writes a line for something that has happened to an account in the request that ctx
// belongs to. It is never left out for PDS_LOG_SAMPLE. Outside of a request nothing is written.
func Event(ctx context.Context, name, did string, attrs ...slog.Attr) {
	st := stateOf(ctx)
	if st == nil || st.log == nil || !st.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	about := []slog.Attr{slog.String("eventName", name), slog.String("did", did)} //nolint:sloglint // the reference's name
	line := slices.Concat(about, attrs)
	if st.id != "" {
		line = append(line, slog.String("request_id", st.id))
	}
	st.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "event", line...)
}

// Source is the attribute of an event that names what led to it.
func Source(word string) slog.Attr { return slog.String("source", word) } //nolint:sloglint // the reference's name

// ForClient is the attribute of an event that names the OAuth client it happened for.
func ForClient(id string) slog.Attr {
	return slog.String("clientId", clip(id, maxEventValue)) //nolint:sloglint // the reference's name
}

// maxEventValue bounds, in bytes, what an event has of a client's name.
const maxEventValue = 256
