package mail

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// TLS is how a connection to the mail server is protected.
type TLS string

// The ways of protection.
const (
	TLSAtOnce   TLS = "tls"      // from the first byte: smtps://
	TLSRequired TLS = "starttls" // STARTTLS; without it nothing is sent
	TLSOffered  TLS = "offered"  // STARTTLS if the server offers it
	TLSNever    TLS = "none"
)

// Server is the operator's mail server. It prints without its password.
type Server struct {
	Host     string
	Port     int
	TLS      TLS
	User     string
	Password string
	// Name is what we call ourselves in EHLO; empty: the public host name.
	Name string
}

func (s Server) String() string { return fmt.Sprintf("%s (%s)", s.Address(), s.TLS) }

// GoString hides the password from %#v too.
func (s Server) GoString() string { return s.String() }

// Address returns host and port.
func (s Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Disabled is the PDS_EMAIL_SMTP_URL of a server that sends no mail.
const Disabled = "none"

var (
	errURL    = errors.New("write smtps://user:password@host:465 or smtp://user:password@host:587")
	errEncode = errors.New("write special characters of user and password percent-encoded (# as %23, / as %2F, ? as %3F, @ as %40, % as %25)")
)

// optionForm is the form of the options' names, in ours and in others' mailers.
var optionForm = regexp.MustCompile(`^[A-Za-z.]+$`)

// ParseURL reads PDS_EMAIL_SMTP_URL: smtps:// is TLS from the start (port 465),
// smtp:// is STARTTLS (port 587), which credentials that leave this machine
// require. User and password are percent-encoded. Of the options of the reference's
// mailer it knows requireTLS and ignoreTLS; name; and pool, maxConnections and
// maxMessages, which mean nothing here. An error never repeats the URL, except an
// option's name that cannot be a part of the password.
func ParseURL(raw string) (Server, error) {
	u, err := url.Parse(raw)
	if err != nil {
		if strings.HasPrefix(raw, "smtp://") || strings.HasPrefix(raw, "smtps://") {
			return Server{}, fmt.Errorf("it cannot be read: %w", errEncode)
		}
		return Server{}, errURL
	}
	s := Server{Host: u.Hostname()}
	query := u.Query()
	switch {
	case u.Scheme != "smtp" && u.Scheme != "smtps":
		return Server{}, errURL
	case query.Has("sendmail"):
		return Server{}, errors.New("a local sendmail is not supported: name the mail server of this machine, like smtp://localhost:25")
	case s.Host == "":
		return Server{}, errURL
	case u.Fragment != "" || u.Path != "" && u.Path != "/":
		return Server{}, fmt.Errorf("there is something behind the host: %w", errEncode)
	}
	s.User = u.User.Username()
	s.Password, _ = u.User.Password()
	if (s.User == "") != (s.Password == "") {
		return Server{}, errors.New("it has a user without a password, or the reverse: write both, or none")
	}
	if s.Port, err = port(u); err != nil {
		return Server{}, err
	}
	return s, s.protect(u.Scheme, query)
}

func port(u *url.URL) (int, error) {
	switch {
	case u.Port() != "":
		n, err := strconv.Atoi(u.Port())
		if err != nil || n < 1 || n > 65535 {
			return 0, errors.New("its port is none: write a number from 1 to 65535")
		}
		return n, nil
	case u.Scheme == "smtps":
		return 465, nil
	default:
		return 587, nil
	}
}

// protect sets TLS and Name.
func (s *Server) protect(scheme string, query url.Values) error {
	foreign := strings.Contains(query.Encode(), "%40") // with an @ behind it, the ? is in the password
	for name := range query {
		switch {
		case slices.Contains([]string{"requireTLS", "ignoreTLS", "name", "pool", "maxConnections", "maxMessages"}, name):
		case foreign || !optionForm.MatchString(name):
			return fmt.Errorf("what stands behind its ? is no option: %w", errEncode)
		default:
			return fmt.Errorf("its option %q is unknown: there are requireTLS, ignoreTLS and name", name)
		}
	}
	s.Name = query.Get("name")
	require, ignore := query.Get("requireTLS") == "true", query.Get("ignoreTLS") == "true"
	secret := s.Password != "" && !s.here()
	switch {
	case require && ignore:
		return errors.New("it requires TLS and ignores it: write one of the two")
	case scheme == "smtps" && ignore:
		return errors.New("smtps:// is TLS: write smtp:// to do without")
	case scheme == "smtps":
		s.TLS = TLSAtOnce
	case ignore && secret:
		return errors.New("the password would leave this machine without TLS: leave ignoreTLS out")
	case ignore:
		s.TLS = TLSNever
	case require || secret:
		s.TLS = TLSRequired
	default:
		s.TLS = TLSOffered
	}
	return nil
}

// here reports whether the server is on this machine, by the names that the SMTP
// library trusts with an unprotected password.
func (s *Server) here() bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, s.Host)
}
