package request

import (
	"testing"
)

func TestClientName(t *testing.T) {
	for userAgent, want := range map[string]string{
		"":                                       "unknown client",
		"something that nobody has heard of/1.0": "unknown client",
		"Bluesky/1.99.0 CFNetwork/1568.200.51 Darwin/24.1.0": "Bluesky app",
		"xyz.blueskyweb.app/1.99":                            "Bluesky app",
		"okhttp/4.12.0":                                      "Android app",
		"MyApp/3 CFNetwork/1568.200.51 Darwin/24.1":          "iOS or macOS app",
		"Dart/3.5 (dart:io)":                                 "Dart app",
		"goat/v0.2.0 indigo/1":                               "goat",
		"indigo-sdk/0.1":                                     "indigo (Go)",
		"atproto-python/0.0.55":                              "atproto (Python)",
		"python-requests/2.32.3":                             "Python program",
		"atrium-xrpc/0.12":                                   "atrium (Rust)",
		"FishyFlip/3.0":                                      "FishyFlip (C#)",
		"node":                                               "Node.js",
		"curl/8.5.0":                                         "curl",
		"Go-http-client/2.0":                                 "Go program",
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36":                         "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36 Edg/128.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36 OPR/114.0.0.0":     "Opera on macOS",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15":                   "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1":          "Safari on iPad",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36":                   "Chrome on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36":                          "Chrome on ChromeOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) deck.blue/1.0 Chrome/128.0.0.0 Safari/537.36":           "deck.blue on Windows",
		"Mozilla/5.0 (compatible; something)": "unknown client",
	} {
		if got := ClientName(userAgent); got != want {
			t.Errorf("ClientName(%q) = %q, want %q", userAgent, got, want)
		}
	}
}
