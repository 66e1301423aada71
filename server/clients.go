package server

import (
	"nestbox/internal/safehttp"
	"nestbox/oauth/client"
	"nestbox/ratelimit"
)

// buildClients makes what loads OAuth clients.
func (s *Server) buildClients(limits *ratelimit.Limiter) {
	c := &s.opts.Config
	s.clients = client.New(client.Options{
		Store: s.stores.Clients, HTTP: client.HTTP(safehttp.Options{}, c.DevMode), Issuer: s.URL, Trusted: c.OAuthTrustedClients,
		Dev: c.DevMode, Limits: limits, Now: s.opts.Now, Log: s.opts.Log,
	})
	s.admin.Clients = s.clients
}
