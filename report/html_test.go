// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Without a script, too, the page says what changed since the baseline: in the fewest words, and what concerns no case.
func TestPageSaysWhatChanged(t *testing.T) {
	good, bad := sample{}.report(t), sample{bug: emptyIsTrue}.report(t)
	both := merge2(t, sample{kubernetes: "1.36.3"}.report(t), good)
	for _, c := range []struct {
		name          string
		r, baseline   *Report
		has, hasNever []string
	}{
		{"no baseline", bad, nil, nil, []string{"What changed since the baseline"}},
		{"nothing", good, good, []string{"What changed since the baseline", "nothing changed; 226 unchanged"}, []string{"regression</strong>"}},
		{"a regression and a run that is gone", bad, both, []string{
			`<strong class="alarm">2 regression</strong>`, "2 cases of <code>istio-classic/decision</code> in <code>admission/1.37.2/reference@0.1.0</code>",
			"<strong>whenever host-network=false and policy=disabled and ns-label=enabled and annotation=empty</strong>",
			`<strong class="alarm">1 missing-run</strong>`, "the run admission/1.36.3/reference@0.1.0 with its 226 cases is not in the new report",
		}, nil},
		{"fixed", good, bad, []string{"<strong>2 fixed</strong>"}, []string{"regression</strong>"}},
	} {
		page := render(t, HTML, c.r, Options{Baseline: c.baseline})
		for _, want := range c.has {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %q", c.name, want)
			}
		}
		for _, never := range c.hasNever {
			if strings.Contains(page, never) {
				t.Errorf("%s: the page says %q", c.name, never)
			}
		}
	}
}

// Times of recovery are on the page by kind of cure, and those of changes by kind of change.
func TestPageSaysHowLongRecoveriesAndChangesTook(t *testing.T) {
	page := render(t, HTML, sample{}.report(t), Options{})
	if !strings.Contains(page, `id="recoveries-h"`) || strings.Contains(page, "Changes hold after") {
		t.Error("recoveries are not on the page, or changes are, of which there are none")
	}
	r := sample{}.report(t)
	for i := range r.Cases {
		if res := &r.Cases[i].Results[0]; res.Recovery > 0 {
			res.Held, res.Recovery = 7*time.Millisecond, 0
		}
	}
	page = render(t, HTML, r, Options{})
	if strings.Contains(page, `id="recoveries-h"`) || !strings.Contains(page, "Changes hold after") || !strings.Contains(page, "<td class=\"n\">7ms</td>") {
		t.Error("changes are not on the page, or recoveries are, of which there are none")
	}
}

// What is good and what is bad can be read on its colour: at least 4.5 to 1 (WCAG 2.2, AA), in the light, in the dark and
// in print.
func TestColoursContrast(t *testing.T) {
	css, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		t.Fatal(err)
	}
	pairs := regexp.MustCompile(`--(good|bad): #([0-9a-f]+); --(good|bad)-fg: #([0-9a-f]+);`).FindAllStringSubmatch(string(css), -1)
	if len(pairs) != 6 {
		t.Fatalf("%d pairs of colours, where three times two are expected", len(pairs))
	}
	for _, p := range pairs {
		a, b := luminance(t, p[2]), luminance(t, p[4])
		if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); p[1] != p[3] || ratio < 4.5 {
			t.Errorf("#%s on #%s, %s: %.2f to 1", p[4], p[2], p[1], ratio)
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = hex[:1] + hex[:1] + hex[1:2] + hex[1:2] + hex[2:] + hex[2:]
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(v uint64) float64 {
		x := float64(v&255) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(n>>16) + 0.7152*linear(n>>8) + 0.0722*linear(n)
}
