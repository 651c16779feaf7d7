// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

var (
	// options of the run, from the flags behind ginkgo's `--`.
	options run.Options
	// shown is how many failing specs are shown before Ginkgo stops: the run goes on, and its report has them all.
	shown int
)

func init() {
	flag.StringVar(&options.Lane, "outrigger.lane", "admission", "where to run: "+strings.Join(run.Lanes(), ", "))
	flag.StringVar(&options.Profile, "outrigger.profile", "", "only the tables of this profile")
	flag.StringVar(&options.Focus, "outrigger.focus", "", "only cases whose ID matches this regular expression")
	flag.StringVar(&options.Kubernetes, "outrigger.k8s-version", "", "version of the control plane")
	flag.StringVar(&options.Routing, "outrigger.routing", "", "how the control plane reaches Services: clusterip, endpoints")
	flag.StringVar(&options.Target, "outrigger.target", "", "file that describes the injector under test")
	flag.StringVar(&options.Injector, "outrigger.injector", "", "the reference injector's binary")
	flag.IntVar(&shown, "outrigger.failures", 25, "how many failing specs to show one by one; the report has all; 0 is no limit")
	flag.StringVar(&options.Tap, "outrigger.tap", "", "the binary of the tap in the kind cluster")
	flag.StringVar(&options.KindConfig, "outrigger.kind-config", "", "the file that the kind cluster is made from")
	flag.StringVar(&options.NodeImage, "outrigger.node-image", "", "image of the kind cluster's nodes")
	flag.BoolVar(&options.Keep, "outrigger.keep", false, "leave the kind cluster running")
	flag.BoolVar(&options.Reuse, "outrigger.reuse", false, "take a kind cluster that was kept")
	flag.BoolVar(&options.Full, "outrigger.full", false, "every case in the kind cluster, not a selection")
	flag.BoolVar(&options.Long, "outrigger.long", false, "in the kind cluster too the tables that wait for the back-off of controllers, and the proofs that take long")
	flag.StringVar(&options.Artifacts, "outrigger.artifacts", "", "folder for the report and its renderings")
}

// memoryLimit is what the garbage collector holds the process to, in bytes (softly: 120 MiB are alive at the end of 36,000
// cases, most of it Ginkgo's own report of them, and garbage may otherwise grow to as much again and more). GOMEMLIMIT
// goes before it. `make bench` measures what comes of it.
const memoryLimit = 300 << 20

// TestE2E builds the tree of specs, and runs it.
func TestE2E(t *testing.T) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	if suite.ParallelTotal > 1 {
		t.Fatal("ginkgo -p and --procs are refused: the runner takes the cases through the lane concurrently by itself, " +
			"and a second process would start a second lane; leave the flag out")
	}
	reporter.Succinct = !reporter.Verbosity().GTE(types.VerbosityLevelVerbose)
	// A test binary lies in a folder of its own; `make bin` leaves the others in the checkout's.
	for _, binary := range []struct {
		beside string
		option *string
	}{{"../bin/injector", &options.Injector}, {"../bin/outrigger-tap", &options.Tap}} {
		if _, err := os.Stat(binary.beside); err == nil && *binary.option == "" && options.Target == "" {
			*binary.option = binary.beside
		}
	}
	lacking, err := describe()
	if err != nil {
		fmt.Fprintln(os.Stderr, "outrigger:", err)
		t.Fatal(err)
	}
	if narrowed(suite) {
		options.Selects, options.SelectsProof = selected(PreviewSpecs("Outrigger", suite))
	}
	options.Progress = os.Stderr
	if !reporter.Verbosity().GTE(types.VerbosityLevelVerbose) {
		withoutDots()
	}
	fmt.Fprint(os.Stderr, lacking)
	RunSpecs(t, "Outrigger", suite, reporter)
}

// narrowed tells whether Ginkgo's own filters leave out specs, so that their cases need not be run.
func narrowed(c types.SuiteConfig) bool {
	return c.LabelFilter != "" || len(c.FocusStrings)+len(c.SkipStrings)+len(c.FocusFiles)+len(c.SkipFiles) > 0
}

// selected selects the cases whose specs a preview did not skip.
func selected(preview Report) (probe.Selects, func(*proof.Proof) bool) {
	ids := map[string]bool{}
	for _, s := range preview.SpecReports {
		if s.State == types.SpecStatePassed && len(s.ContainerHierarchyTexts) == 1 {
			ids[s.ContainerHierarchyTexts[0]+"/"+s.LeafNodeText] = true
		}
	}
	return func(c table.Case) bool { return ids[c.ID()] }, func(p *proof.Proof) bool { return ids[p.ID()] }
}

// The suite's one run, from the first spec to the last.
var (
	session *run.Session
	board   = newBoard[*probe.Judgement]()
	proofs  = newBoard[proof.Result]()
	ended   = make(chan error, 1)
)

var _ = BeforeSuite(func(ctx SpecContext) {
	if isDryRun() {
		return
	}
	fmt.Fprintln(os.Stderr) // Ginkgo's line that counts the specs is still open
	var err error
	session, err = run.Open(ctx, options)
	if err != nil {
		AbortSuite(fmt.Sprintf("start the run: %v", err)) // Gomega would print the error's insides
	}
	running, stop := interruptible()
	go func() {
		session.OnProof(func(r proof.Result) { proofs.put(r.Proof.ID(), r) })
		err := session.Run(running, func(j *probe.Judgement) { board.put(j.Planned.Case.ID(), j) })
		board.close(err)
		proofs.close(err)
		ended <- err
	}()
	DeferCleanup(func() {
		defer stop()
		r, err := session.Finish(<-ended)
		err = errors.Join(err, report.Terminal(os.Stdout, r, report.Options{Colour: report.ColourFor(os.Stdout), ASCII: report.ASCIIFor(os.Getenv)}))
		Expect(err).NotTo(HaveOccurred(), "end the run")
	})
}, PollProgressAfter(0)) // the run tells its own progress, and building Kubernetes takes minutes

// interruptible is a context that ends when the suite is interrupted. Ginkgo's own contexts end with each node.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-signals; ok {
			cancel(run.ErrInterrupted)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}

// isDryRun tells whether nothing is to be run: --dry-run, and the preview of the specs.
func isDryRun() bool {
	suite, _ := GinkgoConfiguration()
	return suite.DryRun
}
