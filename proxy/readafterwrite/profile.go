package readafterwrite

import (
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// authorFields is how many of the fields that readProfile lists a post shows of its
// author.
const authorFields = 2

// readProfile reads what views of the caller show of the profile. If there is no
// profile, or it is too large, that is nothing.
func (c *change) readProfile() {
	var record value
	if c.news.Profile != nil && !c.news.profileTooLarge() {
		if doc, err := parse(c.news.Profile.Value); err == nil {
			record = doc.root()
		}
	}
	text := func(name string) field {
		if v := record.member(name); v.isString() {
			return field{name, v.raw()}
		}
		return field{name, nil}
	}
	picture := func(name string) field {
		if url := c.picture(name, record.member(name)); url != "" {
			return field{name, quote(nil, url)}
		}
		return field{name, nil}
	}
	pinned := field{"pinnedPost", nil}
	if v := record.member(pinned.name); v.member("uri").isString() && v.member("cid").isString() {
		pinned.text = v.raw()
	}
	c.profile = []field{
		text("displayName"), picture("avatar"), // a post shows these
		text("description"), picture("banner"), text("pronouns"), text("website"), pinned,
	}

	c.author = quote([]byte(`{"did":`), c.caller.DID.String())
	c.author = quote(append(c.author, `,"handle":`...), c.caller.Handle)
	for _, f := range c.profile[:authorFields] {
		if f.text != nil {
			c.author = append(quote(append(c.author, ','), f.name), ':')
			c.author = append(c.author, f.text...)
		}
	}
	c.author = append(c.author, '}')
}

// editProfiles plans the profile in getProfile's answer, or in getProfiles'.
func (c *change) editProfiles(root value) {
	edit := func(view value) {
		if view.member("did").is(c.caller.DID.String()) {
			c.set(view, c.profile)
		}
	}
	if c.call.Method == getProfile {
		edit(root)
		return
	}
	if profiles := root.member("profiles"); profiles.isArray() {
		for view := range profiles.parts() {
			edit(view)
		}
	}
}

// namePost plans the caller's name and picture in a view of a post, if it is the
// caller's, and in views of posts that are embedded in it.
func (c *change) namePost(view value) {
	c.nameAuthor(view.member("author"))
	c.nameEmbed(view.member("embed"))
}

func (c *change) nameEmbed(embed value) {
	record := embed.member("record")
	if embed.member("$type").is(recordWithMedia + "#view") {
		record = record.member("record")
	}
	c.nameAuthor(record.member("author"))
	if embeds := record.member("embeds"); embeds.isArray() {
		for embed := range embeds.parts() {
			c.nameEmbed(embed)
		}
	}
}

// nameAuthor plans the same in a view of a profile. A blocked author is shown without
// a handle and gets no name either.
func (c *change) nameAuthor(view value) {
	if c.renamed && view.member("did").is(c.caller.DID.String()) && view.member("handle").isString() {
		c.set(view, c.profile[:authorFields])
	}
}

// picture returns the URL at which a picture of the caller is shown, or nothing if
// the blob is not one.
func (c *change) picture(preset string, blob value) string {
	cid := blob.member("ref").member("$link").text()
	if cid == "" {
		cid = blob.member("cid").text() // the form before 2023
	}
	if _, err := syntax.ParseCID(cid); err != nil {
		return ""
	}
	did := c.caller.DID.String()
	if p := strings.Split(c.Pictures, "%s"); len(p) == 4 {
		return p[0] + preset + p[1] + did + p[2] + cid + p[3]
	}
	// A did:web can hold %3A, which a query would decode.
	return c.PublicURL + "/xrpc/com.atproto.sync.getBlob?did=" + strings.ReplaceAll(did, "%", "%25") + "&cid=" + cid
}
