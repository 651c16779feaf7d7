// SPDX-License-Identifier: Apache-2.0
// Distributions: of latency for each shown run, and of the scenarios' recovery times.

function drawCharts() {
  const f = F, box = $("charts");
  box.replaceChildren();
  if (!f || f.tooMany) return;
  const names = runNames(f.runs), lat = [], rec = [];
  f.runs.forEach((r, k) => {
    const c = f.t.results[r];
    if (!c) return;
    const l = [], m = [];
    for (let i = 0; i < f.t.n; i++) {
      if (!c.latency[i] && !(c.recovery && c.recovery[i]) || !f.shown(r, i)) continue;
      if (c.latency[i]) l.push(c.latency[i]);
      if (c.recovery && c.recovery[i]) m.push(c.recovery[i]);
    }
    if (l.length) lat.push([names[k], Int32Array.from(l).sort()]);
    if (m.length) rec.push([names[k], Int32Array.from(m).sort()]);
  });
  if (lat.length) box.append(distribution("Latency", lat));
  if (rec.length) box.append(distribution("Recovery times", rec));
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * q) - 1))];

// distribution draws a histogram with logarithmic bins for each series, one below the other on the same axis.
function distribution(title, series) {
  const lo = Math.max(1, Math.min(...series.map(([, v]) => v[0]))), hi = Math.max(lo * 1.2, ...series.map(([, v]) => v[v.length - 1]));
  const W = 560, H = 64, bins = 56, scale = Math.log(hi / lo) || 1, x = (v) => (Math.log(Math.max(v, lo) / lo) / scale) * W;
  const section = h("section.chart", {}, h("h3", {}, title));
  for (const [name, v] of series) {
    const n = new Float64Array(bins);
    for (const us of v) n[Math.min(bins - 1, Math.floor((x(us) / W) * bins))]++;
    const top = Math.max(...n), p50 = quantile(v, 0.5), p90 = quantile(v, 0.9), p99 = quantile(v, 0.99);
    const words = `${plural(v.length, "case")}: p50 ${micros(p50)}, p90 ${micros(p90)}, p99 ${micros(p99)}, longest ${micros(v[v.length - 1])}`;
    const g = svg("svg", { viewBox: `0 0 ${W} ${H + 18}`, role: "img", "aria-label": `${title}, ${name}. ${words}` });
    n.forEach((k, i) => { if (k) g.append(svg("rect", { class: "bar", x: (i * W) / bins + 0.5, width: W / bins - 1, y: H - Math.max(1.5, (k / top) * H), height: Math.max(1.5, (k / top) * H) })); });
    for (const [q, label] of [[p50, "p50"], [p99, "p99"]]) {
      g.append(svg("line", { class: "mark", x1: x(q), x2: x(q), y1: 0, y2: H }));
      g.append(svg("text", { class: "mark", x: Math.min(x(q) + 3, W - 24), y: 10 }, label));
    }
    const ticks = [lo, Math.sqrt(lo * hi), hi];
    ticks.forEach((tv, i) => g.append(svg("text", { x: (i * W) / 2, y: H + 14, "text-anchor": ["start", "middle", "end"][i] }, micros(Math.round(tv)))));
    section.append(h("figure", {}, h("figcaption", {}, h("b", {}, name), " ", h("span.quiet", {}, words)), g));
  }
  return section;
}

// drawMore fills in what stands below the matrix and does not change with it.
function drawMore() {
  const box = $("more");
  if (D.coverage.length) {
    box.append(h("section", {}, h("h2", {}, "Coverage"), h("p.quiet", {}, "Combinations of the values of any two, and of any three, dimensions that a run touched."),
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Coverage table" }, h("table.plain", {}, h("thead", {}, h("tr", {}, ...["table", "run", "t", "touched", "possible", "", "untouched, for example"].map((x) => h("th", { scope: "col" }, x)))),
        h("tbody", {}, ...D.coverage.map((c) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, c.table)), h("td", {}, h("code", {}, D.runs[c.run].id)), h("td.n", {}, String(c.t)), h("td.n", {}, number(c.touched)),
          h("td.n", {}, number(c.possible) + (c.sure ? "" : " at most")), h("td.n", {}, meter(c.touched, c.possible)),
          h("td", {}, c.missing ? c.missing[0].map((m) => m.dimension + "=" + m.values.join("|")).join(", ") : ""))))))));
  }
  if (D.quarantine && D.quarantine.length) {
    box.append(h("section", {}, h("h2", {}, "Quarantine"), h("ul", {}, ...D.quarantine.map((q) => h("li", {}, h("code", {}, q.case), ` until ${q.expires}`,
      q.expired ? h("b.alarm", {}, " – expired") : null, `, owner ${q.owner}, issue ${q.issue}`, q.because ? ": " + q.because : "")))));
  }
  if (D.gone && D.gone.length) {
    box.append(h("section", {}, h("h2", {}, "Cases of the baseline that the tables no longer have"), h("ul", {}, ...D.gone.map((g) => h("li", {}, h("code", {}, g))))));
  }
  if (D.leftOut) box.append(h("p.quiet", {}, "The patches and reviews of " + plural(D.leftOut, "result") + " are not here; they were too many."));
}

function meter(a, b) {
  if (!b) return "–";
  const m = h("span", {}, (Math.floor((a * 1000) / b) / 10).toFixed(1) + " % "), bar = h("meter", { min: 0, max: b, value: a, "aria-hidden": "true" });
  m.append(bar);
  return m;
}
