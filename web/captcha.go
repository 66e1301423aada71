package web

import (
	"context"
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

// Solved reports whether a solution is right, and was not used before. An error means that
// hCaptcha did not say.
func (c *Captcha) Solved(ctx context.Context, solution string) (solved bool, err error) {
	if solution == "" || len(solution) > maxSolution {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, captchaTimeout)
	defer cancel()
	form := url.Values{
		"secret": {c.SecretKey}, "response": {solution}, "sitekey": {c.SiteKey},
		"remoteip": {request.ClientOf(ctx).Addr.String()},
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
