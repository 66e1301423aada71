package readafterwrite

// maxQuotes is how many quotes inside of each other show what the quoted post embeds.
const maxQuotes = 1

// ownQuote returns the view of a new post that another new post quotes.
func (c *change) ownQuote(p *post, level int) []byte {
	b := append(quote([]byte(`{"$type":`), embeddedRecord+"#viewRecord"), ',')
	b = c.appendIdentity(b, p)
	b = append(append(b, `,"value":`...), p.Value...)
	b = append(append(b, `,"labels":`...), c.labels(p)...)
	b = append(b, `,"likeCount":0,"replyCount":0,"repostCount":0,"quoteCount":0,"indexedAt":`...)
	b = quote(b, p.at.Format(milliseconds))
	if level < maxQuotes {
		b = append(b, `,"embeds":[`...)
		b = append(append(b, c.embed(p.value.member("embed"), level+1)...), ']')
	}
	return append(b, '}')
}

// postQuote returns a view of a post in the form that a quote of it has.
func postQuote(view value) []byte {
	b := quote([]byte(`{"$type":`), embeddedRecord+"#viewRecord")
	for _, name := range []string{
		"uri", "cid", "author", "record", "labels", "likeCount", "replyCount", "repostCount", "quoteCount", "indexedAt",
	} {
		v := view.member(name)
		if !v.there() {
			continue
		}
		if name == "record" {
			name = "value"
		}
		b = append(quote(append(b, ','), name), ':')
		b = append(b, v.rendered()...)
	}
	b = append(b, `,"embeds":[`...)
	if embed := view.member("embed"); embed.there() {
		b = append(b, embed.rendered()...)
	}
	return append(b, "]}"...)
}
