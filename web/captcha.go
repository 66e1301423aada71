package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"nestbox/request"
)

// Captcha asks hCaptcha whether somebody who signs up has solved its riddle. Its fields are
// set once.
type Captcha struct {
	SiteKey, SecretKey string
	// TokenSalt, if it is set, salts the hashes by which hCaptcha recognises who signs up
	// again and again: of the address, the handle and the program.
	TokenSalt string
	// URL is where hCaptcha verifies.
	URL string
	// Client calls it.
	Client *http.Client
}

// CaptchaURL is hCaptcha's own (https://docs.hcaptcha.com/#verify-the-user-response-server-side).
const CaptchaURL = "https://api.hcaptcha.com/siteverify"

// The bounds of a verification: its time, and what is read of an answer, in bytes. A
// token of hCaptcha has some hundred characters.
const (
	captchaTimeout = 10 * time.Second
	maxVerdict     = 64 << 10
	maxSolution    = 16 << 10
)

// Solved reports whether a solution is right, and was not used before, for somebody who
// wants a handle. An error means that hCaptcha did not say.
func (c *Captcha) Solved(ctx context.Context, solution, handle string) (solved bool, err error) {
	if solution == "" || len(solution) > maxSolution {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, captchaTimeout)
	defer cancel()
	form := url.Values{
		"secret": {c.SecretKey}, "response": {solution}, "sitekey": {c.SiteKey},
		"remoteip": {request.ClientOf(ctx).Addr.String()}, "behavior_type": {"signup"},
	}
	if c.TokenSalt != "" {
		form.Set("client_tokens", c.tokens(request.ClientOf(ctx), handle))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return false, fmt.Errorf("ask hCaptcha: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.Client.Do(r)
	if err != nil {
		return false, fmt.Errorf("ask hCaptcha: %w", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return false, fmt.Errorf("ask hCaptcha: status %d", answer.StatusCode)
	}
	var verdict struct {
		Success bool `json:"success"`
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxVerdict))
	if err == nil {
		err = json.Unmarshal(raw, &verdict)
	}
	if err != nil {
		return false, fmt.Errorf("read hCaptcha's answer: %w", err)
	}
	return verdict.Success, nil
}

// tokens returns what hCaptcha compares among sign-ups, in the form of
// HCaptchaClient.buildClientTokens of @atproto/oauth-provider: it learns no handle, and of two
// servers with different salts not that somebody is the same.
func (c *Captcha) tokens(who request.Client, handle string) string {
	hash := func(value string) string {
		sum := sha256.Sum256([]byte(c.TokenSalt + value))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	tokens := map[string]string{"hashedIp": hash(who.Addr.String()), "hashedHandle": hash(handle)}
	if who.UserAgent != "" {
		tokens["hashedUserAgent"] = hash(who.UserAgent)
	}
	raw, _ := json.Marshal(tokens) // texts cannot fail
	return string(raw)
}
