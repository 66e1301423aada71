package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/internal/safehttp"
	"nestbox/internal/system"
	"nestbox/store/sqlite"
)

const (
	// doctorPatience bounds the time of one check, doctorAnswer what it reads.
	doctorPatience = 10 * time.Second
	doctorAnswer   = 64 << 10
	// doctorSample is how many identities the doctor compares.
	doctorSample = 20
	// maxSkew is by how much the clock may be wrong: tokens of other servers are valid
	// for a minute.
	maxSkew = 30 * time.Second
	// leastFree is how much of the disk should be free, in bytes.
	leastFree = 1 << 30
)

// look is one check of the doctor.
type look struct {
	what string
	do   func(context.Context) (says string, err error)
}

// diagnose looks, from this machine, for what makes a server unusable: what people
// and other servers need from it, and what it needs from others. It changes
// nothing, but that a lost part of the backups' log makes a snapshot due.
func (s *Server) diagnose(ctx context.Context) (found []admin.Finding) {
	looks := []look{
		{"data directory", s.lookAtFolder},
		{"database", s.lookAtDatabase},
		{"host name", s.lookAtHost},
		{"handles", s.lookAtHandles},
		{"PLC directory", s.lookAtPLC},
		{"identities", s.lookAtIdentities},
		{"other services", s.lookAtServices},
		{"mail", s.lookAtMail},
		{"accounts", s.lookAtAccounts},
		{"passkeys", s.lookAtPasskeys},
		{"backups", s.lookAtBackups},
		{"event numbers", s.lookAtNumbers},
	}
	if r, err := readRestored(s.dir); err != nil || r != nil && r.LostBlobs > 0 {
		looks = append(looks, look{"restored blobs", s.lookAtRestored})
	}
	if s.taken != nil {
		looks = append(looks, look{"old server", s.lookAtOldServer})
	}
	for _, look := range looks {
		within, cancel := context.WithTimeout(ctx, doctorPatience)
		says, err := look.do(within)
		cancel()
		if err != nil {
			says = err.Error()
		}
		found = append(found, admin.Finding{What: look.what, OK: err == nil, Says: says})
	}
	return found
}

func (s *Server) lookAtFolder(context.Context) (string, error) {
	fi, err := os.Stat(s.DataDir)
	if err != nil {
		return "", fmt.Errorf("it cannot be read: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("other users of this machine may enter %s: run chmod 700 %s", s.DataDir, s.DataDir)
	}
	free, err := system.FreeSpace(s.DataDir)
	if err != nil {
		return "", fmt.Errorf("the free space of its disk cannot be read: %w", err)
	}
	if free < leastFree {
		return "", fmt.Errorf("only %d MB of the disk of %s are free: make room, or writes will fail", free>>20, s.DataDir)
	}
	return fmt.Sprintf("%s, %d MB of its disk are free", s.DataDir, free>>20), nil
}

func (s *Server) lookAtDatabase(ctx context.Context) (string, error) {
	if err := s.db.Ping(ctx); err != nil {
		return "", fmt.Errorf("it cannot be read: restart the server, and run nestbox verify if that does not help: %w", err)
	}
	size := s.db.LogSize()
	if size > sqlite.LogLimit {
		return "", fmt.Errorf("its write-ahead log has %d MB, because another program reads the database: "+
			"end that program, or wait until it ends if it is a backup", size>>20)
	}
	return fmt.Sprintf("it can be read, and its write-ahead log has %d MB; nestbox verify checks its content", size>>20), nil
}

// seen is the answer of a request to a URL.
type seen struct {
	status int
	date   string
	body   []byte
}

// fetch requests a URL, as anybody would.
func fetch(ctx context.Context, address string) (seen, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return seen{}, err
	}
	resp, err := (&http.Client{Timeout: doctorPatience}).Do(req) //nolint:bodyclose // ReadAll closes it
	if err != nil {
		return seen{}, err
	}
	body, err := safehttp.ReadAll(resp, doctorAnswer)
	return seen{resp.StatusCode, resp.Header.Get("Date"), body}, err
}

func (s *Server) lookAtHost(ctx context.Context) (string, error) {
	if s.listener == nil && s.opts.Config.DevMode {
		return "not checked: no server runs; start it, and run nestbox doctor again", nil
	}
	got, err := fetch(ctx, s.URL+"/xrpc/_health")
	if err != nil {
		return "", fmt.Errorf("%s cannot be reached from this machine: check its DNS entry, the proxy and the certificate: %w", s.URL, err)
	}
	var health struct{ Version string }
	if got.status != http.StatusOK || json.Unmarshal(got.body, &health) != nil {
		return "", fmt.Errorf("%s answers with status %d, not as this server does: make the proxy forward it to this server", s.URL, got.status)
	}
	return fmt.Sprintf("%s answers, version %s", s.URL, health.Version), nil
}

func (s *Server) lookAtHandles(ctx context.Context) (string, error) {
	if s.opts.Config.DevMode {
		return "not checked in development", nil
	}
	for _, domain := range s.opts.Config.HandleDomains {
		name := "nestbox-doctor" + domain
		if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
			return "", fmt.Errorf("%s has no address, so handles below %s do not work: "+
				"add a wildcard entry to the DNS, *%s: %w", name, domain, domain, err)
		}
	}
	return "names below " + strings.Join(s.opts.Config.HandleDomains, " and ") + " have an address", nil
}

func (s *Server) lookAtPLC(ctx context.Context) (string, error) {
	got, err := fetch(ctx, s.PLC+"/_health")
	if err != nil {
		return "", fmt.Errorf("%s cannot be reached, so nobody can sign up or change a handle: "+
			"check this machine's network, and PDS_DID_PLC_URL: %w", s.PLC, err)
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("%s answers with status %d, so nobody can sign up or change a handle: "+
			"check PDS_DID_PLC_URL, or wait until the directory works", s.PLC, got.status)
	}
	if date, err := http.ParseTime(got.date); err == nil {
		if skew := s.opts.Now().Sub(date); skew.Abs() > maxSkew {
			return "", fmt.Errorf("the clock of this machine differs by %s from that of %s, "+
				"so other servers will refuse its tokens: set the clock", skew.Round(time.Second), s.PLC)
		}
	}
	return s.PLC + " answers", nil
}

func (s *Server) lookAtIdentities(ctx context.Context) (string, error) {
	accounts, err := s.stores.Accounts.List(ctx, 0, doctorSample)
	if err != nil {
		return "", fmt.Errorf("the accounts cannot be read: %w", err)
	}
	var wrong []string
	for _, a := range accounts {
		r, err := s.hosting.ShowIdentity(ctx, a)
		if err != nil {
			return "", fmt.Errorf("the identity of %s cannot be read from the network: run nestbox identity show %s: %w", a.DID, a.DID, err)
		}
		for _, f := range r.Facts {
			if f.Differs() && a.DeactivatedAt.IsZero() {
				wrong = append(wrong, fmt.Sprintf("the %s of %s", f.What, a.Handle))
			}
		}
	}
	if len(wrong) > 0 {
		return "", fmt.Errorf("the network says something else than this server: %s; "+
			"run nestbox identity show, then nestbox identity repair", strings.Join(wrong, ", "))
	}
	return fmt.Sprintf("the network and this server agree on the identities of %d accounts", len(accounts)), nil
}

// errNoMail is for servers that are configured to send no mail.
var errNoMail = errors.New("no mail is sent, so nobody can reset a password or move away: set PDS_EMAIL_SMTP_URL")

func (s *Server) lookAtMail(ctx context.Context) (string, error) {
	c := &s.opts.Config
	if !c.SMTPURL.IsSet() && c.DevMode {
		return "printed to the terminal", nil
	}
	if !c.SendsMail() {
		return "", errNoMail
	}
	smtp, err := MailServer(c)
	if err != nil {
		return "", err
	}
	server := smtp.Server.Address()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return "", fmt.Errorf("the mail server %s cannot be reached: "+
			"check PDS_EMAIL_SMTP_URL, and whether this machine's network lets mail out: %w", server, err)
	}
	_ = conn.Close() // it accepts connections, which is all we wanted to know
	return server + " accepts connections; nestbox mail test ADDRESS sends a message", nil
}

func (s *Server) lookAtAccounts(ctx context.Context) (string, error) {
	n, err := s.hosting.Store.Hosted(ctx)
	if err != nil {
		return "", fmt.Errorf("the accounts cannot be counted: %w", err)
	}
	limit := s.opts.Config.RelayAccountLimit
	if s.hosting.Crowded(n) {
		return "", fmt.Errorf("%d are active, and relays accept %d from this host: "+
			"ask their operators for more, and set PDS_RELAY_ACCOUNT_LIMIT to the number that they agree to", n, limit)
	}
	says := fmt.Sprintf("%d are active", n)
	if limit > 0 {
		says += fmt.Sprintf("; relays accept %d", limit)
	}
	if s.opts.Config.Signup == config.SignupOpen && !s.opts.Config.DevMode {
		says += "; anybody may sign up"
	}
	return says, nil
}
