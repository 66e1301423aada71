package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// shortOAuthTTL is the life of an access token in tests that wait for its end.
const shortOAuthTTL = "PDS_OAUTH_ACCESS_TOKEN_TTL=3s"

// TestOAuthClients makes apps on real libraries do what people do with them. atcute's speaks
// to https alone, so its server has a public name.
func TestOAuthClients(t *testing.T) {
	for _, c := range []struct {
		name, script        string
		confidential, named bool
	}{
		{name: "atproto loopback", script: "atproto"},
		{name: "atproto confidential", script: "atproto", confidential: true},
		{name: "atcute", script: "atcute", named: true},
		{name: "oauth4webapi", script: "oauth4webapi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			app := newOAuthApp(t)
			env := []string{"REDIRECT=http://127.0.0.1/callback"}
			if c.confidential {
				env = []string{"REDIRECT=" + app.url + "/callback", "CLIENT_ID=" + app.url + "/client.json"}
			}
			var server, short *pdstest.Process
			if c.named {
				server = launchNamed(t)
				env = append(env, "VIA=http://"+server.Ready.Listen)
			} else {
				// The directory is another server's: it survives this one.
				plc := "PDS_DID_PLC_URL=" + pdstest.Launch(t, "").Ready.PLC
				server, short = pdstest.Launch(t, "", app.authority, plc), pdstest.Launch(t, "", app.authority, shortOAuthTTL)
				env = append(env, "SHORT="+short.Base, "SHORT_PLC="+short.Ready.PLC)
			}
			runScript(t, []string{"oauth.mjs", c.script}, append(env, "SERVICE="+server.Base, "PLC="+server.Ready.PLC), handlers{
				"account":       func(name string) any { return newOwner(t, server, name) },
				"short account": func(name string) any { return newOwner(t, short, name) },
				"allow":         func(request string) any { return answerScript(t, server, request, false) },
				"deny":          func(request string) any { return answerScript(t, server, request, true) },
				"publish":       func(document string) any { app.document.Store(&document); return nil },
				"stop":          func(string) any { server.Stop(); return nil },
				"kill":          func(string) any { server.Kill(); return nil },
				"restart":       func(string) any { server.Restart(); return nil },
				"end":           func(who string) any { endSessions(t, server, who); return nil },
			})
			if t.Failed() {
				t.Logf("the server's log:\n%s", server.Log())
			}
		})
	}
}

// newOwner makes an account under the server's own domain.
func newOwner(t *testing.T, server *pdstest.Process, name string) pdstest.Session {
	t.Helper()
	domain := ".test"
	if strings.HasPrefix(server.Base, "https:") {
		domain = "." + publicHost
	}
	var owner pdstest.Session
	server.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
		"handle": name + domain, "email": name + "@example.com", "password": pdstest.Password,
	}}).Decode(t, &owner)
	return owner
}

// answerScript is a person with a new browser. The answer is empty if the pages could not be
// answered.
func answerScript(t *testing.T, server *pdstest.Process, request string, deny bool) string {
	t.Helper()
	var r struct{ URL, Identifier string }
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		t.Errorf("%s: %v", request, err)
		return ""
	}
	p := person{identifier: r.Identifier, password: pdstest.Password, deny: deny, transport: toServer{server.Ready.Listen}}
	to, err := p.answer(t.Context(), r.URL)
	if err != nil {
		t.Errorf("answer %s: %v", r.URL, err)
	}
	return to
}

// endSessions is what an operator does.
func endSessions(t *testing.T, server *pdstest.Process, who string) {
	t.Helper()
	for _, s := range sessionsOf(t, server, who) {
		if _, err := pdstest.Run(t, "", "session", "revoke", "--data", server.Dir, who, strconv.FormatInt(s.ID, 10)); err != nil {
			t.Error(err)
		}
	}
}

// oauthApp is the host of an app: https://app.localhost on a free port.
type oauthApp struct {
	url string
	// authority is the setting that lets a server trust the host's certificate.
	authority string
	// document is the client's metadata.
	document atomic.Pointer[string]
}

func newOAuthApp(t *testing.T) *oauthApp {
	t.Helper()
	app := &oauthApp{}
	host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		document := app.document.Load()
		if r.URL.Path != "/client.json" || document == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(*document)) // a server that leaves sees a broken connection
	}))
	certificate := selfSigned(t, "app.localhost")
	host.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	host.StartTLS()
	t.Cleanup(host.Close)
	_, port, err := net.SplitHostPort(host.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	app.url = "https://app.localhost:" + port
	file := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	app.authority = "SSL_CERT_FILE=" + file
	return app
}

// selfSigned makes a certificate that is its own authority.
func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
