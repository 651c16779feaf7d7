// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// An answerFault stands in the way of an answer: next is the call of the target.
type answerFault func(f *Fault, next exchange) exchange

// An ending is what comes after a reply's body, in place of an orderly end. Its error goes into the call's record.
type ending func(ctx context.Context, w http.ResponseWriter) error

// faulty is next with the fault's answer, next itself where the fault leaves answers alone.
func (f *Fault) faulty(next exchange) exchange {
	switch {
	case f.answer != nil:
		return f.answer(f, readable(next))
	case f.review != nil:
		return edit(f, readable(next))
	}
	return next
}

// readable calls next so that the target's answer is not compressed: it is to be changed.
func readable(next exchange) exchange {
	return func(ctx context.Context, q *query) (*reply, error) {
		q.header.Del("Accept-Encoding")
		return next(ctx, q)
	}
}

// instead answers without the target.
func instead(status int, header http.Header, body string) answerFault {
	return func(*Fault, exchange) exchange {
		return func(context.Context, *query) (*reply, error) {
			return &reply{status: status, header: header, length: int64(len(body)), body: []byte(body)}, nil
		}
	}
}

func status(f *Fault, next exchange) exchange {
	header := http.Header{"Content-Type": {"text/plain"}}
	if f.RetryAfter != nil {
		header.Set("Retry-After", strconv.Itoa(*f.RetryAfter))
	}
	return instead(f.Status, header, "a fault\n")(f, next)
}

// whole calls next and has change change its answer, which must be a whole 200.
func whole(f *Fault, next exchange, change func(*reply) error) exchange {
	return func(ctx context.Context, q *query) (*reply, error) {
		answer, err := next(ctx, q)
		if err != nil {
			return answer, err
		}
		if answer.status != http.StatusOK || len(answer.body) == 0 {
			return answer, fmt.Errorf("putting %w %s into the target's answer: it is HTTP %d with %d bytes, and a review is needed",
				errFault, f.Name, answer.status, len(answer.body))
		}
		return answer, change(answer)
	}
}

func edit(f *Fault, next exchange) exchange {
	return whole(f, next, func(answer *reply) error {
		body, err := jsonpatch.MergePatch(answer.body, f.review)
		if err != nil {
			return fmt.Errorf("putting %w %s into the target's answer: %w", errFault, f.Name, err)
		}
		answer.resize(body)
		return nil
	})
}

func truncated(f *Fault, next exchange) exchange {
	return whole(f, next, func(answer *reply) error {
		answer.resize(answer.body[:len(answer.body)/2])
		return nil
	})
}

// resize gives the reply another body, of which its header says the length.
func (r *reply) resize(body []byte) {
	r.body, r.length = body, int64(len(body))
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set("Content-Length", strconv.Itoa(len(body)))
}

func cutInBody(f *Fault, next exchange) exchange {
	return whole(f, next, func(answer *reply) error {
		answer.resize(answer.body)
		answer.body = answer.body[:len(answer.body)/2]
		answer.ending = abort(f)
		return nil
	})
}

// cutAfterBody announces the end of the connection: the API server would keep one that ends without a word for its next
// call, and that would fail if it came before the end was noticed ("http: server closed idle connection").
func cutAfterBody(f *Fault, next exchange) exchange {
	return whole(f, next, func(answer *reply) error {
		answer.resize(answer.body)
		answer.header.Set("Connection", "close")
		answer.ending = abort(f)
		return nil
	})
}

func cutBeforeEnd(f *Fault, next exchange) exchange {
	return whole(f, next, func(answer *reply) error {
		answer.header.Del("Content-Length")
		answer.ending = abort(f)
		return nil
	})
}

// abort ends the connection after what is out already.
func abort(f *Fault) ending {
	return func(context.Context, http.ResponseWriter) error { return fmt.Errorf("%w %s", errFault, f.Name) }
}

// endless sends a first part, and then nothing more: a body that never ends need not be a long one, and memory and
// time of both ends stay bounded.
func endless(f *Fault, _ exchange) exchange {
	return func(context.Context, *query) (*reply, error) {
		body := make([]byte, 64<<10)
		for i := range body {
			body[i] = ' '
		}
		return &reply{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, length: -1,
			body: body, ending: func(ctx context.Context, _ http.ResponseWriter) error {
				<-ctx.Done()
				return fmt.Errorf("%w %s: %w", errFault, f.Name, ErrHungUp)
			}}, nil
	}
}

func hangUp(f *Fault, _ exchange) exchange {
	return func(context.Context, *query) (*reply, error) { return nil, fmt.Errorf("%w %s", errFault, f.Name) }
}

// everyOther hangs up on the first of a case's calls, the third, and so on.
func everyOther(f *Fault, next exchange) exchange {
	broken := hangUp(f, next)
	var calls atomic.Int64
	return func(ctx context.Context, q *query) (*reply, error) {
		if calls.Add(1)%2 == 1 {
			return broken(ctx, q)
		}
		return next(ctx, q)
	}
}

func silent(f *Fault, _ exchange) exchange {
	return func(ctx context.Context, _ *query) (*reply, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("%w %s: %w", errFault, f.Name, context.Cause(ctx))
	}
}

func slow(f *Fault, next exchange) exchange {
	return func(ctx context.Context, q *query) (*reply, error) {
		timer := time.NewTimer(time.Duration(f.Delay))
		defer timer.Stop()
		select {
		case <-timer.C:
			return next(ctx, q)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w %s: %w", errFault, f.Name, context.Cause(ctx))
		}
	}
}

func reset(f *Fault, _ exchange) exchange {
	return func(context.Context, *query) (*reply, error) { return &reply{ending: resets(f)}, nil }
}

// resetting is cut, with a reset in the place of the connection's end.
func resetting(cut answerFault) answerFault {
	return func(f *Fault, next exchange) exchange {
		next = cut(f, next)
		return func(ctx context.Context, q *query) (*reply, error) {
			answer, err := next(ctx, q)
			if answer != nil && answer.ending != nil {
				answer.ending = resets(f)
			}
			return answer, err
		}
	}
}

func resets(f *Fault) ending {
	return func(_ context.Context, w http.ResponseWriter) error {
		return fmt.Errorf("%w %s: %w", errFault, f.Name, resetConnection(w))
	}
}

// errReset is what a record says of a connection that was reset.
var errReset = errors.New("the connection was reset")

// resetConnection sends a TCP reset instead of an end, TLS's included.
func resetConnection(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("resetting the connection: %w", err)
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	return errReset
}
