// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sigs.k8s.io/kind/pkg/cluster/nodes"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
)

// An auditTail follows the API server's audit log out of the node.
type auditTail struct {
	log    *controlplane.AuditLog
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	err    error         // why it ended by itself
	paused chan struct{} // closed by resume; nil while nobody restarts the node
}

// followAudit follows the log from its end on, through its rotation, and through the API server's restarts. It returns
// once the log is there to be followed.
func followAudit(ctx context.Context, node nodes.Node) (*auditTail, error) {
	err := await(ctx, "the API server writes its audit log", func(ctx context.Context) (bool, error) {
		return node.CommandContext(ctx, "test", "-e", auditLogPath).Run() == nil, nil
	})
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &auditTail{log: controlplane.NewAuditLog(User), cancel: cancel, ended: make(chan struct{})}
	started := &firstWrite{log: t.log, seen: make(chan struct{})}
	go func() {
		defer close(t.ended)
		// tail looks at what was written before with the line that it begins with: one line says that it follows.
		for tail := []string{"--lines=1", "--follow=name", "--retry", auditLogPath}; ; {
			err := node.CommandContext(life, "tail", tail...).SetStdout(started).Run()
			if life.Err() != nil || !t.goesOn(life, err, node) {
				break
			}
			_, _ = started.Write([]byte("\n")) // what was cut off in the middle ends here
		}
		t.log.Close(errors.New("the audit log is followed no more"))
	}()
	select {
	case <-started.seen:
	case <-t.ended:
		return nil, t.why()
	case <-ctx.Done():
		t.stop()
		return nil, fmt.Errorf("wait until the audit log is followed: %w", context.Cause(ctx))
	}
	return t, nil
}

// goesOn tells, once the log is followed no more, whether it will be: the node is restarted on purpose, and is there again.
func (t *auditTail) goesOn(life context.Context, err error, node nodes.Node) bool {
	t.mu.Lock()
	resumed := t.paused
	if resumed == nil {
		t.err = fmt.Errorf("follow the audit log on node %s: it ended: %w", node, errors.Join(err, errors.New("does the node still run?")))
	}
	t.mu.Unlock()
	if resumed == nil {
		return false
	}
	select {
	case <-resumed:
		return true
	case <-life.Done():
		return false
	}
}

// pause says that the node is restarted on purpose, until resume is called.
func (t *auditTail) pause() (resume func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	paused := make(chan struct{})
	t.paused = paused
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.paused = nil
		close(paused)
	})
}

// why says why the log is followed no more; nil while it is, and after stop.
func (t *auditTail) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *auditTail) stop() {
	t.cancel()
	<-t.ended
}

// firstWrite tells when something has come.
type firstWrite struct {
	log  *controlplane.AuditLog
	once sync.Once
	seen chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.seen) })
	return w.log.Write(p)
}
