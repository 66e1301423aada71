package readafterwrite

// What a post can embed; the types of views are named like them, with #view.
const (
	images          = "app.bsky.embed.images"
	gallery         = "app.bsky.embed.gallery"
	external        = "app.bsky.embed.external"
	embeddedRecord  = "app.bsky.embed.record"
	recordWithMedia = "app.bsky.embed.recordWithMedia"
	video           = "app.bsky.embed.video"
)

// maxPictures bounds the pictures of a view.
const maxPictures = 10

// shows reports whether a post embeds one of the kinds, by itself or beside a record.
func (p *post) shows(kinds ...string) bool {
	embed := p.value.member("embed")
	for _, kind := range kinds {
		if embed.member("$type").is(kind) || embed.member("media").member("$type").is(kind) {
			return true
		}
	}
	return false
}

// quoted returns the URI of the record that an embed refers to, or nothing.
func quoted(embed value) string {
	record := embed.member("record")
	if embed.member("$type").is(recordWithMedia) {
		record = record.member("record")
	}
	return record.member("uri").text()
}

// embed returns the view of what a new post embeds, or nil if there is none or it
// cannot be shown. level counts the quotes around it.
func (c *change) embed(embed value, level int) []byte {
	switch embed.member("$type").text() {
	case images:
		return c.images(embed)
	case gallery:
		return c.gallery(embed)
	case external:
		return c.external(embed)
	case embeddedRecord:
		return c.record(embed, level)
	case recordWithMedia:
		media := embed.member("media")
		if kind := media.member("$type"); kind.is(embeddedRecord) || kind.is(recordWithMedia) {
			return nil
		}
		record, view := c.record(embed, level), c.embed(media, level)
		if record == nil || view == nil {
			return nil
		}
		b := append(beginView(recordWithMedia, "record"), record...)
		b = append(append(b, `,"media":`...), view...)
		return append(b, '}')
	default:
		return nil
	}
}

// beginView returns the beginning of an embed's view, up to the value of its first member.
func beginView(kind, member string) []byte {
	b := quote([]byte(`{"$type":`), kind+"#view")
	return append(quote(append(b, ','), member), ':')
}

// appendImage appends the members that the view of a picture has in images and in
// galleries; false: it is not a picture.
func (c *change) appendImage(b []byte, image value, thumbnail string) ([]byte, bool) {
	blob, alt := image.member("image"), image.member("alt")
	thumb, full := c.picture("feed_thumbnail", blob), c.picture("feed_fullsize", blob)
	if thumb == "" || !alt.isString() {
		return b, false
	}
	b = quote(append(quote(b, thumbnail), ':'), thumb)
	b = quote(append(b, `,"fullsize":`...), full)
	b = append(append(b, `,"alt":`...), alt.raw()...)
	if ratio := image.member("aspectRatio"); ratio.member("width").isNumber() && ratio.member("height").isNumber() {
		b = append(append(b, `,"aspectRatio":`...), ratio.raw()...)
	}
	return b, true
}

func (c *change) images(embed value) []byte {
	if !embed.member("images").isArray() {
		return nil
	}
	b, n := append(beginView(images, "images"), '['), 0
	for image := range embed.member("images").parts() {
		if n == maxPictures {
			break
		}
		if n > 0 {
			b = append(b, ',')
		}
		var ok bool
		if b, ok = c.appendImage(append(b, '{'), image, "thumb"); !ok {
			return nil
		}
		b, n = append(b, '}'), n+1
	}
	return append(b, "]}"...)
}

// gallery shows the items that are pictures; other kinds are not known yet.
func (c *change) gallery(embed value) []byte {
	if !embed.member("items").isArray() {
		return nil
	}
	b, n := append(beginView(gallery, "items"), '['), 0
	for item := range embed.member("items").parts() {
		if n == maxPictures {
			break
		}
		if !item.member("$type").is(gallery + "#image") {
			continue
		}
		if n > 0 {
			b = append(b, ',')
		}
		var ok bool
		b = append(quote(append(b, `{"$type":`...), gallery+"#viewImage"), ',')
		if b, ok = c.appendImage(b, item, "thumbnail"); !ok {
			return nil
		}
		b, n = append(b, '}'), n+1
	}
	return append(b, "]}"...)
}

func (c *change) external(embed value) []byte {
	link := embed.member("external")
	b := append(beginView(external, "external"), '{')
	for i, name := range []string{"uri", "title", "description"} {
		if !link.member(name).isString() {
			return nil
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(quote(b, name), ':'), link.member(name).raw()...)
	}
	if url := c.picture("feed_thumbnail", link.member("thumb")); url != "" {
		b = quote(append(b, `,"thumb":`...), url)
	}
	return append(b, "}}"...)
}

// record returns the view of an embedded record, or nil if it is not known what the
// service has of it.
func (c *change) record(embed value, level int) []byte {
	uri := quoted(embed)
	if uri == "" {
		return nil
	}
	var record []byte
	view, known := c.found[uri]
	switch own := c.byURI[uri]; {
	case own != nil:
		record = c.ownQuote(own, level)
	case view.there() && collection(uri) == feedCollection:
		record = typed(view, feedView)
	case view.there() && collection(uri) == listCollection:
		record = typed(view, listView)
	case view.there():
		record = postQuote(view)
	case known:
		record = quote([]byte(`{"$type":`), embeddedRecord+"#viewNotFound")
		record = append(quote(append(record, `,"uri":`...), uri), `,"notFound":true}`...)
	default:
		return nil
	}
	return append(append(beginView(embeddedRecord, "record"), record...), '}')
}
