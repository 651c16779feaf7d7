// SPDX-License-Identifier: Apache-2.0
// What is shown, all of it in the address after the #, so that a link to a cell can be shared.

const S = {
  table: 0, rows: [], columns: [], facets: [], by: "agreement", runs: [], text: "", compare: "", changed: false,
  dims: {}, status: [], outcome: [], change: [], cell: null, case: null, focus: "",
};

const MODES = { agreement: "agreement with the table", outcome: "observed outcome", expected: "expected outcome", change: "change", latency: "latency" };

function resetPivot(t) {
  const v = t.view || {};
  S.rows = (v.rows || []).filter((d) => d in t.dim);
  S.columns = (v.columns || []).filter((d) => d in t.dim);
  S.facets = (v.facets || []).filter((d) => d in t.dim);
  if (!S.rows.length && !S.columns.length && t.dimensions.length) {
    S.columns = [t.dimensions[0].name];
    if (t.dimensions.length > 1) S.rows = [t.dimensions[1].name];
  }
}

function readHash() {
  const p = new URLSearchParams(location.hash.slice(1));
  const list = (k) => (p.get(k) || "").split("|").filter(Boolean);
  const ti = D.tables.findIndex((t) => t.id === p.get("table"));
  const found = p.get("case") ? findCase(p.get("case")) : null;
  S.table = found ? found.t.index : Math.max(ti, 0);
  if (ti < 0 && !found) S.table = busiestTable();
  const t = D.tables[S.table];
  resetPivot(t);
  if (p.has("rows") || p.has("columns") || p.has("facets")) {
    const known = (k) => list(k).filter((d) => d in t.dim);
    [S.rows, S.columns, S.facets] = [known("rows"), known("columns"), known("facets")];
  }
  // Where everything agrees with the tables, what was seen tells more.
  S.by = p.get("by") in MODES ? p.get("by") : D.tables.some(badCount) ? "agreement" : "outcome";
  S.text = p.get("q") || "";
  S.compare = p.get("compare") || "";
  if (S.compare && S.compare !== "baseline" && !D.runs.some((r) => runKey(r) === S.compare)) S.compare = "";
  if (S.compare === "baseline" && !D.comparison) S.compare = "";
  if (S.by === "change" && !S.compare) S.by = "agreement";
  S.changed = p.get("changed") === "1" && S.compare !== "";
  S.runs = list("runs").map((k) => D.runs.findIndex((r) => runKey(r) === k)).filter((i) => i >= 0);
  S.status = list("status").filter((s) => STATUSES.includes(s));
  S.outcome = list("outcome").map((o) => (o === "nothing" ? "" : o)).filter((o) => OUTCOMES.includes(o));
  S.change = list("change").filter((c) => CHANGES.includes(c));
  S.dims = {};
  for (const [k, v] of p) {
    if (!k.startsWith("d.") || !(k.slice(2) in t.dim)) continue;
    const d = t.dimensions[t.dim[k.slice(2)]];
    const kept = v.split("|").filter((x) => d.values.includes(x));
    if (kept.length) S.dims[d.name] = kept;
  }
  S.case = found ? { i: found.i, run: Math.max(0, D.runs.findIndex((r) => runKey(r) === p.get("run"))) } : null;
  S.cell = !found && p.get("cell") ? p.get("cell") : null;
}

function busiestTable() {
  let best = 0, most = -1;
  D.tables.forEach((t, i) => {
    let bad = 0, all = 0;
    t.results.forEach((c, r) => {
      if (!c || D.runs[r].before) return; // what only the baseline has is no place to begin
      for (let k = 0; k < t.n; k++) {
        if (c.status[k] !== NONE) all++;
        if (c.status[k] >= FAIL && c.status[k] <= ERROR) bad++;
      }
    });
    if (bad * 1e6 + all > most) [best, most] = [i, bad * 1e6 + all];
  });
  return best;
}

function hashOf() {
  const p = new URLSearchParams(), t = D.tables[S.table];
  const set = (k, v) => { if (v && v.length) p.set(k, Array.isArray(v) ? v.join("|") : v); };
  p.set("table", t.id);
  set("rows", S.rows); set("columns", S.columns); set("facets", S.facets);
  set("by", S.by);
  set("q", S.text); set("compare", S.compare);
  if (S.changed) p.set("changed", "1");
  set("runs", S.runs.map((r) => runKey(D.runs[r])));
  set("status", S.status); set("outcome", S.outcome.map(outcomeName)); set("change", S.change);
  for (const d of Object.keys(S.dims).sort()) set("d." + d, S.dims[d]);
  if (S.case) { p.set("case", caseID(t, S.case.i)); p.set("run", runKey(D.runs[S.case.run])); } else if (S.cell) p.set("cell", S.cell);
  return "#" + p.toString();
}

let lastHash = "";
function writeHash() {
  lastHash = hashOf();
  if (lastHash !== location.hash) history.replaceState(null, "", lastHash);
}

// shownRuns are the columns to show: those chosen, else all of today's; with a comparison, each after its predecessor.
function shownRuns() {
  const t = D.tables[S.table];
  let runs = S.runs.length ? S.runs : D.runs.map((_, i) => i).filter((i) => !D.runs[i].before);
  runs = runs.filter((r) => t.results[r] || beforeRun(r) >= 0 && t.results[beforeRun(r)]);
  if (S.compare === "") return runs;
  const out = [];
  for (const r of runs) {
    const b = beforeRun(r);
    if (b < 0) continue; // nothing to compare it with
    if (b >= 0 && t.results[b] && !out.includes(b)) out.push(b);
    if (!out.includes(r)) out.push(r);
  }
  return out.length ? out : runs;
}
