package request

import (
	"strings"
)

// clientNames are the names of clients by a part of their User-Agent, the more
// telling first: apps, then libraries, then browsers.
var clientNames = []struct{ part, name string }{
	{"Bluesky", "Bluesky app"},
	{"xyz.blueskyweb", "Bluesky app"},
	{"Graysky", "Graysky"},
	{"Skeets", "Skeets"},
	{"Ouranos", "Ouranos"},
	{"deck.blue", "deck.blue"},
	{"TOKIMEKI", "TOKIMEKI"},
	{"Openvibe", "Openvibe"},
	{"goat/", "goat"},
	{"indigo", "indigo (Go)"},
	{"atproto-python", "atproto (Python)"},
	{"FishyFlip", "FishyFlip (C#)"},
	{"atrium", "atrium (Rust)"},
	{"okhttp", "Android app"},
	{"CFNetwork", "iOS or macOS app"},
	{"Dart/", "Dart app"},
	{"Edg/", "Edge"},
	{"OPR/", "Opera"},
	{"Firefox/", "Firefox"},
	{"Chrome/", "Chrome"},
	{"Safari/", "Safari"},
	{"curl/", "curl"},
	{"node", "Node.js"},
	{"Go-http-client", "Go program"},
	{"python", "Python program"},
}

// systems are operating systems by a part of the User-Agent of a browser.
var systems = []struct{ part, name string }{
	{"Android", "Android"},
	{"iPhone", "iPhone"},
	{"iPad", "iPad"},
	{"Windows", "Windows"},
	{"Mac OS X", "macOS"},
	{"CrOS", "ChromeOS"},
	{"Linux", "Linux"},
}

// UnknownClient is the ClientName of a program that nobody knows.
const UnknownClient = "unknown client"

const clientOn = " on "

// ClientName returns the client's name by its User-Agent, for people.
func ClientName(userAgent string) string {
	for _, c := range clientNames {
		if !strings.Contains(userAgent, c.part) {
			continue
		}
		for _, s := range systems {
			if strings.HasPrefix(userAgent, "Mozilla/") && strings.Contains(userAgent, s.part) {
				return c.name + clientOn + s.name
			}
		}
		return c.name
	}
	return UnknownClient
}

// ClientParts returns the program and the system of a ClientName, for other languages; a
// name has no system if that is not known, and UnknownClient neither.
func ClientParts(name string) (program, system string) {
	if name == UnknownClient {
		return "", ""
	}
	program, system, _ = strings.Cut(name, clientOn)
	return program, system
}
