package readafterwrite_test

import (
	"strings"
	"testing"

	raw "nestbox/proxy/readafterwrite"
)

const (
	getProfile    = "app.bsky.actor.getProfile"
	getProfiles   = "app.bsky.actor.getProfiles"
	getTimeline   = "app.bsky.feed.getTimeline"
	getAuthorFeed = "app.bsky.feed.getAuthorFeed"
	getActorLikes = "app.bsky.feed.getActorLikes"
	getPostThread = "app.bsky.feed.getPostThread"
)

// fullProfile has every member that a view shows, in a strange layout and with
// numbers and members that nobody knows.
const fullProfile = ` { "did" : "` + alice + `",
 "handle":"alice.test", "displayName": "Old", "description":"old\u0020text", "avatar":"https://old/a","banner" :"https://old/b",
 "pronouns":"x/y","website":"https://old.example.com","pinnedPost":{"uri":"at://old/app.bsky.feed.post/1","cid":"old"},
 "followersCount":1e3,"postsCount":12345678901234567890,"unknown":[{"displayName":"keep"} ,null],"viewer":{"muted":false},"labels":[] } `

func TestProfile(t *testing.T) {
	everything := profileOf(5, `,"displayName":"New \"name\"","description":"new","avatar":`+blobJSON+`,"banner":`+blobJSON+
		`,"pronouns":"she/her","website":"https://new.example.com","pinnedPost":{"uri":"`+ownURI("p")+`","cid":"`+cid+`"},"createdAt":"x"`)
	s := scene{method: getProfile, query: "actor=" + alice, body: fullProfile, news: raw.News{Profile: everything, ProfileNew: true}}
	want := strings.NewReplacer(
		`"Old"`, `"New \"name\""`, `"old\u0020text"`, `"new"`,
		`"https://old/a"`, `"https://cdn.example.com/img/avatar/plain/`+alice+`/`+blob+`@jpeg"`,
		`"https://old/b"`, `"https://cdn.example.com/img/banner/plain/`+alice+`/`+blob+`@jpeg"`,
		`"x/y"`, `"she/her"`, `"https://old.example.com"`, `"https://new.example.com"`,
		`{"uri":"at://old/app.bsky.feed.post/1","cid":"old"}`, `{"uri":"`+ownURI("p")+`","cid":"`+cid+`"}`,
	).Replace(fullProfile)
	if got := s.must(t); got != want {
		t.Errorf("edited:\n%s\nwant:\n%s", got, want)
	}

	// Absent members go, whether the record lacks them or is not there.
	bare := ` { "did" : "` + alice + `",
 "handle":"alice.test",
 "followersCount":1e3,"postsCount":12345678901234567890,"unknown":[{"displayName":"keep"} ,null],"viewer":{"muted":false},"labels":[] } `
	s.news = raw.News{Profile: profileOf(5, `,"displayName":5,"avatar":"no blob","pinnedPost":{"uri":"only"}`), ProfileNew: true}
	if got := s.must(t); got != bare {
		t.Errorf("members of wrong types: edited:\n%s\nwant:\n%s", got, bare)
	}
	s.news = raw.News{Deleted: true}
	if got := s.must(t); got != bare {
		t.Errorf("a deleted profile: edited:\n%s\nwant:\n%s", got, bare)
	}

	// New ones come behind the others, in an object without members too.
	s.body, s.news = `{"did":"`+alice+`"}`, raw.News{Profile: everything, ProfileNew: true}
	if got := s.must(t); !strings.HasPrefix(got, `{"did":"`+alice+`","displayName":"New \"name\"","avatar":"https://cdn`) {
		t.Errorf("edited: %s", got)
	}
}

func TestProfileUnchanged(t *testing.T) {
	profile := profileOf(5, `,"displayName":"New"`)
	for name, s := range map[string]scene{
		"not written since":      {body: fullProfile, news: raw.News{Profile: profile, Posts: []raw.Record{post("a", 1, "")}}},
		"another's":              {body: strings.ReplaceAll(fullProfile, alice, bob), news: raw.News{Profile: profile, ProfileNew: true}},
		"only a post is gone":    {body: fullProfile, news: raw.News{Profile: profile, Deleted: true}},
		"the same already":       {body: `{"did":"` + alice + `","displayName":"New"}`, news: raw.News{Profile: profile, ProfileNew: true}},
		"an error":               {body: `{"error":"InvalidRequest","message":"Profile not found"}`, status: 400, news: raw.News{Profile: profile, ProfileNew: true}},
		"a list in its place":    {body: `["did"]`, news: raw.News{Profile: profile, ProfileNew: true}},
		"a repeated member":      {body: `{"did":"` + alice + `","displayName":"a","displayName":"b"}`, news: raw.News{Profile: profile, ProfileNew: true}},
		"something behind":       {body: fullProfile + `{}`, news: raw.News{Profile: profile, ProfileNew: true}},
		"cut off":                {body: fullProfile[:len(fullProfile)-3], news: raw.News{Profile: profile, ProfileNew: true}},
		"bytes that are no text": {body: strings.Replace(fullProfile, "Old", "O\xffld", 1), news: raw.News{Profile: profile, ProfileNew: true}},
		"empty":                  {news: raw.News{Profile: profile, ProfileNew: true}},
	} {
		s.method = getProfile
		if got := s.must(t); got != "" {
			t.Errorf("%s: edited: %s", name, got)
		}
	}
}

func TestProfiles(t *testing.T) {
	body := `{"profiles":[{"did":"` + bob + `","displayName":"Bob"},{"did":"` + alice + `","displayName":"Old","followsCount":7},5]}`
	s := scene{method: getProfiles, body: body, news: raw.News{Profile: profileOf(5, `,"displayName":"New"`), ProfileNew: true}}
	if got, want := s.must(t), strings.Replace(body, "Old", "New", 1); got != want {
		t.Errorf("edited %s, want %s", got, want)
	}
}

// A name that is written with an escape is the same name.
func TestEscapedNames(t *testing.T) {
	body := `{"d\u0069d":"did\u003aplc:alicealicealicealicealic","display\u004eame":"Old"}`
	s := scene{method: getProfile, body: body, news: raw.News{Profile: profileOf(5, `,"displayName":"New"`), ProfileNew: true}}
	if got, want := s.must(t), strings.Replace(body, "Old", "New", 1); got != want {
		t.Errorf("edited %s, want %s", got, want)
	}
}

func TestPicturesWithoutCDN(t *testing.T) {
	s := scene{
		method: getProfile, body: `{"did":"` + alice + `"}`, editor: raw.Editor{PublicURL: "https://pds.example.com"},
		news: raw.News{Profile: profileOf(5, `,"avatar":`+blobJSON+`,"banner":{"cid":"`+blob+`","mimeType":"image/png"}`), ProfileNew: true},
	}
	want := "https://pds.example.com/xrpc/com.atproto.sync.getBlob?did=" + alice + "&cid=" + blob
	got := s.must(t)
	if in(t, got, "avatar") != want || in(t, got, "banner") != want {
		t.Errorf("edited %s, want %s", got, want)
	}
}
