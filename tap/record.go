// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// A Call is the record of one call of the API server to the target.
type Call struct {
	Key     string // the case's
	Webhook string // as given to Tap.URL
	Path    string // what the target was asked for: its own path and whatever followed the webhook in the tap's URL
	Query   string // without the question mark, such as "timeout=10s"
	Asked   string // path that the API server asked the tap for, as it wrote it
	Proto   string // which HTTP the API server spoke: "HTTP/1.1", "HTTP/2.0"

	Request  []byte      // body as received
	Response []byte      // body as the target sent it, perhaps compressed (see Header); with Err, the part that came
	Header   http.Header // of the response; nil when there was none
	Status   int         // of the response; 0 when there was none

	Received time.Time     // when the call had reached the tap
	Latency  time.Duration // from then until the whole answer had come from the target, or Err was known
	// Err says why the call did not go through: the target could not be reached, broke off, answered with more than
	// the limit ([Options].MaxResponse), or (errors.Is: [ErrHungUp]) the API server did not wait for the answer. nil
	// for any whole answer, whatever its status.
	Err error
}

// ErrHungUp marks calls whose answer the API server did not wait for: its timeout was over, or its request was.
var ErrHungUp = errors.New("the API server hung up before the answer came")

// ErrUnfinished marks calls that were still under way when [Tap.Take] could not wait any longer.
var ErrUnfinished = errors.New("the call was still under way when its record was taken")

// A Stray is a call that no case expected.
type Stray struct {
	Received  time.Time
	Webhook   string
	Operation string // "CREATE"
	Resource  string // "pods", "deployments.apps"
	Namespace string
	Name      string // or generateName
	UID       string // of the review
	// Err is nil for a review that was answered with allowed: true; else it says what was wrong with the call, which
	// was then refused.
	Err error
}

// An expectation is a case that may be called for, from Expect to Take. Its calls are guarded by the tap's mutex.
type expectation struct {
	exchange exchange
	path     string           // of the upstream, for records
	routes   map[string]route // by webhook: the calls that go elsewhere
	calls    []*Call
	open     int           // calls under way
	idle     chan struct{} // closed when open falls to 0; nil while nobody waits
}

// taken returns the finished records, and marks the others.
func (e *expectation) taken() []Call {
	calls := make([]Call, len(e.calls))
	for i, call := range e.calls {
		calls[i] = *call
		if call.Latency == 0 {
			calls[i].Err = ErrUnfinished
		}
	}
	return calls
}

// hungUp adds [ErrHungUp] where it was the API server that gave up.
func hungUp(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(ErrHungUp, err)
	}
	return err
}
