// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A query is one call as the API server made it.
type query struct {
	method        string
	rest, rawRest string // what follows the webhook in the path, decoded and as it was written
	rawQuery      string
	header        http.Header
	body          []byte
}

func (q *query) reader() io.ReadCloser           { return io.NopCloser(bytes.NewReader(q.body)) }
func (q *query) getBody() (io.ReadCloser, error) { return q.reader(), nil }

// A reply is what goes back.
type reply struct {
	status int
	header http.Header
	length int64 // as announced; -1 when it was not
	proto  string
	body   []byte
	ending ending // how the call ends after the body, where not in order; nil for all but faults
}

// An exchange answers a query: by calling an upstream, or, where a fault stands in the answer's way, by whatever that
// does before, after or in place of the call. A reply beside an error is the part that came before it broke off.
type exchange func(ctx context.Context, q *query) (*reply, error)

// errTooLarge says that a body is over the tap's limit.
var errTooLarge = errors.New("the body is larger than the tap's limit")

// readBounded reads a body of at most limit bytes. announced is its Content-Length, or -1. What was read is returned
// with the error that ended it.
func readBounded(r io.Reader, announced, limit int64) ([]byte, error) {
	if announced > limit {
		return nil, fmt.Errorf("%w (%d bytes announced, limit %d)", errTooLarge, announced, limit)
	}
	if announced >= 0 { // one allocation of the right size, and the common way
		body := make([]byte, announced)
		n, err := io.ReadFull(r, body)
		if errors.Is(err, io.EOF) { // io.ReadFull's way to say that not one byte came
			err = io.ErrUnexpectedEOF
		}
		return body[:n], err
	}
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(body)) > limit {
		return body[:limit], fmt.Errorf("%w (limit %d)", errTooLarge, limit)
	}
	return body, err
}

// hopByHop are the headers that belong to one connection and not to the message (RFC 9110, section 7.6.1). Of the
// body's length and form each side's HTTP code takes care.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}
