package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// The secrets of an operator who comes from the reference server.
const (
	jwtSecret     = "0123456789abcdef0123456789abcdef"
	adminSecret   = "fedcba9876543210fedcba9876543210"
	rotationKey   = "5d7c2f4b8a1e9063c4d7b2a5e8f1063947a2c5d8e1b4f7063a9c2d5e8f1b4a70"
	mailSecret    = "mail-secret-of-the-operator"
	referenceFile = `# as the reference's installer writes it
PDS_HOSTNAME=pds.example.com
PDS_JWT_SECRET=` + jwtSecret + `
PDS_ADMIN_PASSWORD=` + adminSecret + `
PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=` + rotationKey + `
PDS_DATA_DIRECTORY=/pds
PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks
PDS_BLOB_UPLOAD_LIMIT=104857600
PDS_BSKY_APP_VIEW_URL=https://appview.example.com
PDS_BSKY_APP_VIEW_DID=did:web:appview.example.com
PDS_REPORT_SERVICE_URL=https://mod.example.com
PDS_REPORT_SERVICE_DID=did:web:mod.example.com
PDS_CRAWLERS=https://relay.example.com
LOG_ENABLED=true
PDS_EMAIL_SMTP_URL="smtps://pds:` + mailSecret + `@smtp.example.com:465/"
PDS_EMAIL_FROM_ADDRESS='pds@example.com'
`
	// shortestFile holds the required settings and no secret except the mail's.
	shortestFile = `PDS_HOSTNAME=pds.example.com
PDS_EMAIL_SMTP_URL=smtps://pds:` + mailSecret + `@smtp.example.com:465/
PDS_EMAIL_FROM_ADDRESS=pds@example.com
`
)

// launchPublic starts a server as an operator does: not for development, with
// an environment file. Its PLC directory is another server's embedded one.
func launchPublic(t *testing.T, dir, content string, settings ...string) *pdstest.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	// Its URL is the public one: the address has to be known beforehand.
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	// The file's folder of blobs is outside of the test's folder.
	settings = append(settings, "PDS_DID_PLC_URL="+pdstest.Launch(t, "").Ready.PLC, "PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(dir, "blocks"))
	p := pdstest.LaunchArgs(t, []string{"serve", "--env-file", file, "--data", dir, "--listen", address}, settings...)
	t.Cleanup(func() {
		p.Stop()
		pdstest.Verify(t, dir)
	})
	p.Dir = dir
	p.Base = "http://" + address
	return p
}

// signUpInvited makes an account on a server that asks for an invite.
func signUpInvited(t *testing.T, p *pdstest.Process, name, admin string) (s pdstest.Session) {
	t.Helper()
	var invite struct{ Code string }
	p.Do(t, pdstest.Request{
		NSID: "com.atproto.server.createInviteCode", Auth: basic("admin:" + admin), Body: map[string]int{"useCount": 1},
	}).Decode(t, &invite)
	a := p.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
		"handle": name + ".pds.example.com", "email": name + "@example.com", "password": pdstest.Password, "inviteCode": invite.Code,
	}})
	if a.Status != http.StatusOK {
		t.Fatalf("sign-up: %d %s", a.Status, a.Body)
	}
	a.Decode(t, &s)
	return s
}

// TestProcessReferenceSettings: the operator's pds.env works, and so do the
// tokens that the reference issued under it.
func TestProcessReferenceSettings(t *testing.T) {
	t.Parallel()
	p := launchPublic(t, pdstest.TempDir(t), referenceFile)
	if p.Ready.URL != "https://pds.example.com" || p.Ready.DID != "did:web:pds.example.com" || p.Ready.Data != p.Dir {
		t.Errorf("READY says %+v", p.Ready)
	}
	if strings.Contains(p.Log(), "unknown settings") || strings.Contains(p.Log(), "no effect") {
		t.Errorf("log:\n%s", p.Log())
	}
	s := signUpInvited(t, p, "alice", adminSecret)
	if header, _ := readToken(t, s.AccessJwt); !strings.HasPrefix(fmt.Sprint(header["kid"]), "env-") {
		t.Errorf("PDS_JWT_SECRET does not sign: %v", header)
	}

	// The reference writes neither kid nor sid, and its jti is 32 random bytes.
	reference := forger{secret: []byte(jwtSecret)}
	now := time.Now()
	access := reference.forge(t, s.AccessJwt, header("kid", nil), claim("sid", nil), claim("iat", now.Add(-time.Hour).Unix()), claim("exp", now.Add(time.Hour).Unix()))
	refresh := reference.forge(t, s.RefreshJwt, header("kid", nil), claim("sid", nil), claim("jti", base64.StdEncoding.EncodeToString(make([]byte, 32))))
	a := p.GetSession(t, access)
	if a.Status != http.StatusOK {
		t.Errorf("the reference's access token: %d %s", a.Status, a.Body)
	}
	wantContains(t, string(a.Body), s.DID)
	p.Refresh(t, refresh).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	wrong := forger{secret: []byte(jwtSecret + "0")}.forge(t, access)
	p.GetSession(t, wrong).WantError(t, http.StatusBadRequest, "InvalidToken", "Token could not be verified")

	// It is among what a sign-out of the account ends, and a retired key's.
	if _, err := pdstest.Run(t, "", "keys", "rotate", "--data", p.Dir); err != nil {
		t.Error(err)
	}
	if a := p.GetSession(t, access); a.Status != http.StatusOK {
		t.Errorf("after a rotation: %d %s", a.Status, a.Body)
	}
	if _, err := pdstest.Run(t, "", "account", "signout", "--data", p.Dir, "alice@example.com"); err != nil {
		t.Error(err)
	}
	p.GetSession(t, access).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
}

// TestProcessSecrets: secrets are in files of mode 0600, and in no log.
func TestProcessSecrets(t *testing.T) {
	t.Parallel()
	dir := func(t *testing.T) string { t.Helper(); return filepath.Join(pdstest.TempDir(t), "data") }
	for name, start := range map[string]func(t *testing.T) (p *pdstest.Process, admin string){
		"development": func(t *testing.T) (*pdstest.Process, string) {
			t.Helper()
			return pdstest.Launch(t, dir(t), "PDS_LOG_LEVEL=debug"), ""
		},
		"configured": func(t *testing.T) (*pdstest.Process, string) {
			t.Helper()
			return launchPublic(t, dir(t), referenceFile, "PDS_LOG_LEVEL=debug"), adminSecret
		},
		"generated": func(t *testing.T) (*pdstest.Process, string) {
			t.Helper()
			p := launchPublic(t, dir(t), shortestFile, "PDS_LOG_LEVEL=debug")
			return p, strings.TrimSpace(string(readFile(t, p.Dir, "admin_password")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, admin := start(t)
			secrets := useSecrets(t, p, admin)
			if admin != "" {
				secrets = append(secrets, admin)
			}
			p.Stop()
			secrets = append(secrets, jwtSecret, adminSecret, rotationKey, mailSecret, pdstest.Password, "another-password")
			secrets = append(secrets, keptSecrets(t, p.Dir)...)
			for _, text := range []string{p.Log(), p.Stdout(), string(readFile(t, p.Dir, "last_settings.json"))} {
				for _, secret := range secrets {
					if len(secret) < 8 || strings.Contains(text, secret) {
						t.Errorf("secret %q is told, or too short to look for", secret)
					}
				}
			}
			wantContains(t, p.Log(), "createSession", "refreshSession")
		})
	}
}

// useSecrets makes the server handle every kind of secret and returns them.
func useSecrets(t *testing.T, p *pdstest.Process, admin string) (secrets []string) {
	t.Helper()
	var s pdstest.Session
	if admin == "" {
		s = p.SignUp(t, "alice")
	} else {
		s = signUpInvited(t, p, "alice", admin)
	}
	again := p.MustRefresh(t, s.RefreshJwt)
	secrets = append(secrets, newAppPassword(t, p.Client, again))
	for _, token := range []string{s.AccessJwt, s.RefreshJwt, again.AccessJwt, again.RefreshJwt} {
		signature := token[strings.LastIndexByte(token, '.')+1:]
		secrets = append(secrets, signature)
		p.GetSession(t, token)
		p.Refresh(t, token)
		p.Do(t, pdstest.Request{NSID: "com.atproto.server.getSession?token=" + token, Auth: "Foo " + token})
	}
	for _, password := range []string{pdstest.Password, "a-wrong-password", strings.Repeat("long-password", 50)} {
		p.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": "alice@example.com", "password": password}})
		p.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: `{"identifier":"x","password":"` + password + `"`})
		p.Do(t, pdstest.Request{NSID: "com.atproto.admin.getAccountInfo?did=" + s.DID, Auth: basic("admin:" + password)})
		secrets = append(secrets, password, strings.TrimPrefix(basic("admin:"+password), "Basic "))
	}
	if _, err := pdstest.Run(t, "another-password", "account", "password", "--password-stdin", "--data", p.Dir, s.DID); err != nil {
		t.Error(err)
	}
	return secrets
}

// keptSecrets are the contents of the secret files of a data directory, each in
// the forms in which it could leak. It checks the files' modes.
func keptSecrets(t *testing.T, dir string) (secrets []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	kek := strings.TrimSpace(string(readFile(t, dir, "key_encryption_key")))
	raw, err := hex.DecodeString(kek)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, kek, base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw))
	if _, err := os.Stat(filepath.Join(dir, "plc_rotation_key.sealed")); err == nil {
		sealed := readFile(t, dir, "plc_rotation_key.sealed")
		secrets = append(secrets, hex.EncodeToString(sealed), base64.StdEncoding.EncodeToString(sealed))
	}
	for line := range strings.Lines(string(readFile(t, dir, "keyring.json"))) {
		if _, value, ok := strings.Cut(line, `"secret": "`); ok {
			secrets = append(secrets, strings.Trim(value, "\",\n"))
		}
	}
	return secrets
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
