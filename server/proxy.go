package server

import (
	"strings"
	"time"

	"nestbox/auth"
	"nestbox/proxy"
	"nestbox/ratelimit"
)

// buildProxy wires what passes calls on to other services.
func (s *Server) buildProxy(limits *ratelimit.Limiter) {
	c := &s.opts.Config
	target := func(url, did, service string) proxy.Target {
		return proxy.Target{DID: did, Service: service, URL: strings.TrimRight(url, "/")}
	}
	s.proxy = proxy.New(proxy.Settings{
		Defaults: proxy.Defaults{
			AppView:    target(c.AppViewURL, c.AppViewDID, "bsky_appview"),
			Moderation: target(c.ModServiceURL, c.ModServiceDID, "atproto_labeler"),
			Reports:    target(c.ReportServiceURL, c.ReportServiceDID, "atproto_labeler"),
		},
		URL: s.URL, Version: s.opts.Version,
		HeadersTimeout: time.Duration(c.ProxyHeadersTimeoutMS) * time.Millisecond,
		BodyTimeout:    time.Duration(c.ProxyBodyTimeoutMS) * time.Millisecond,
		MaxRequest:     c.BlobUploadLimit, MaxAnswer: c.ProxyMaxResponseSize,
		HTTP2: c.ProxyAllowHTTP2, Dev: c.DevMode, Pictures: c.AppViewCDN,
	}, proxy.Parts{
		Accounts: s.stores.Accounts, Keys: s.keys, Resolver: s.resolver, Repos: s.repos, Callers: s.verifier.For(auth.UseLook).Granting(),
		Limits: limits, Took: s.upstreamTook(), Now: s.opts.Now, Log: s.opts.Log,
	})
}
