package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"
)

// requestTimeout bounds one request; a server that takes longer has failed.
const requestTimeout = 30 * time.Second

// transferTimeout bounds one that moves a large repository.
const transferTimeout = 10 * time.Minute

// conn is one keep-alive connection with one request on it at a time. It costs
// a fraction of net/http's client, so that the generator, which shares the
// machine with the server, leaves it most of the machine.
type conn struct {
	host string
	tcp  net.Conn
	read *bufio.Reader
	out  []byte
	body []byte

	// header are lines that every request has, each with its end.
	header string

	// What the headers of answers said: the newest DPoP-Nonce of all, and the Location
	// and the cookies of the last.
	nonce    string
	location string
	cookies  []string
}

func dial(host string) (*conn, error) {
	tcp, err := net.DialTimeout("tcp", host, requestTimeout) //nolint:noctx // it has its own limit
	if err != nil {
		return nil, err
	}
	return &conn{host: host, tcp: tcp, read: bufio.NewReaderSize(tcp, 8<<10)}, nil
}

func (c *conn) close() { _ = c.tcp.Close() }

// answerError is an answer with a status other than 200.
type answerError struct {
	status int
	body   string
}

func (e *answerError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// call makes one XRPC request and returns the body of its answer, which is
// valid until the next call. A nil body makes no JSON request.
func (c *conn) call(method, nsid, token string, body []byte) ([]byte, error) {
	if err := c.send(method, nsid, token, body); err != nil {
		return nil, err
	}
	return c.answer()
}

func (c *conn) send(method, nsid, token string, body []byte) error {
	header := c.header
	if token != "" {
		header = "Authorization: Bearer " + token + "\r\n" + header
	}
	return c.write(method, "/xrpc/"+nsid, header, typeJSON, body)
}

// The types of bodies.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// write sends a request: header are lines with their ends, kind is the type of the body,
// if it is not nil.
func (c *conn) write(method, path, header, kind string, body []byte) error {
	b := c.out[:0]
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	b = append(b, "\r\nUser-Agent: nestbox-bench\r\n"...)
	b = append(b, header...)
	if body != nil {
		b = append(b, "Content-Type: "...)
		b = append(b, kind...)
		b = append(b, "\r\n"...)
	}
	if method == "POST" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	c.out = b
	if err := c.tcp.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	_, err := c.tcp.Write(b)
	return err
}

// download makes a query, reads and drops its answer, however long, and returns
// its length.
func (c *conn) download(nsid, token string) (int64, error) {
	if err := c.send("GET", nsid, token, nil); err != nil {
		return 0, err
	}
	return c.drain()
}

// drain reads and drops an answer.
func (c *conn) drain() (int64, error) {
	// A large one may take longer than a request does.
	if err := c.tcp.SetDeadline(time.Now().Add(transferTimeout)); err != nil {
		return 0, err
	}
	status, length, err := c.head()
	if err != nil {
		return 0, err
	}
	body := io.LimitReader(c.read, int64(length))
	if length < 0 {
		body = httputil.NewChunkedReader(c.read)
	}
	if status != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(body, 1000))
		return 0, errors.Join(&answerError{status, string(text)}, err)
	}
	n, err := io.Copy(io.Discard, body)
	if err == nil && length < 0 {
		_, err = c.read.Discard(len("\r\n")) // the end of the trailer, which has nothing
	}
	if err == nil && length >= 0 && n < int64(length) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// head reads the status of a response and the length of its body; -1 means that
// the body comes in chunks.
func (c *conn) head() (status, length int, err error) {
	line, err := c.read.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	length = -1
	c.location, c.cookies = "", c.cookies[:0]
	for {
		line, err := c.read.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return status, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case isHeader(name, "Content-Length"):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, fmt.Errorf("content length: %w", err)
			}
		case isHeader(name, "DPoP-Nonce"):
			if string(value) != c.nonce { // it is the same for minutes
				c.nonce = string(value)
			}
		case isHeader(name, "Location"):
			c.location = string(value)
		case isHeader(name, "Set-Cookie"):
			c.cookies = append(c.cookies, string(value))
		}
	}
}

func isHeader(name []byte, wanted string) bool {
	return len(name) == len(wanted) && bytes.EqualFold(name, []byte(wanted))
}

// maxAnswer bounds an answer that is kept, in bytes.
const maxAnswer = 1 << 20

// answer reads one response, of status 200.
func (c *conn) answer() ([]byte, error) {
	status, body, err := c.reply()
	if err == nil && status != http.StatusOK {
		err = &answerError{status, string(body)}
	}
	return body, err
}

// reply reads one response. Both servers send a length for most of the measured answers.
func (c *conn) reply() (status int, body []byte, err error) {
	status, length, err := c.head()
	if err != nil {
		return 0, nil, err
	}
	switch {
	case length > maxAnswer:
		return 0, nil, fmt.Errorf("an answer of %d bytes", length)
	case status == http.StatusNoContent:
		c.body = c.body[:0]
	case length < 0: // the reference sends some empty answers in chunks
		if c.body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.read), maxAnswer)); err == nil {
			_, err = c.read.Discard(len("\r\n")) // the end of the trailer, which has nothing
		}
	default:
		if cap(c.body) < length {
			c.body = make([]byte, length)
		}
		c.body = c.body[:length]
		_, err = io.ReadFull(c.read, c.body)
	}
	return status, c.body, err
}
