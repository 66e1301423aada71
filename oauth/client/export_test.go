package client

import "net/url"

// ReadDocument checks a document as it is after it was fetched.
func ReadDocument(id string, raw []byte) (*Client, error) {
	u, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	return readDocument(u, id, raw, false)
}
