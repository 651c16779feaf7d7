// SPDX-License-Identifier: Apache-2.0
// Filtering: one pass over columns. Text is matched against the few words there are, not against every case.

// makeFilter gives a function (run, case) → shown or not, for one table.
function makeFilter(t) {
  const caseMask = new Uint8Array(t.n).fill(1);
  for (const [name, kept] of Object.entries(S.dims)) {
    const d = t.dim[name];
    if (d === undefined) continue;
    const ok = t.dimensions[d].values.map((v) => kept.includes(v)), col = t.values[d];
    for (let i = 0; i < t.n; i++) if (!ok[col[i]]) caseMask[i] = 0;
  }
  const tokens = S.text.toLowerCase().split(/\s+/).filter(Boolean).map((k) => makeToken(t, k));
  const status = S.status.length ? STATUSES.map((s) => S.status.includes(s)) : null;
  const outcome = S.outcome.length ? D.obsOutcome.map((o) => S.outcome.includes(OUTCOMES[o])) : null;
  const change = S.change.length ? CHANGES.map((c) => S.change.includes(c)) : null;
  const before = D.runs.map((_, r) => (beforeRun(r) >= 0 ? t.results[beforeRun(r)] : null));
  const comparing = D.runs.map((_, r) => beforeRun(r) >= 0);
  // A run that serves as "before" is filtered as the run that is compared with it.
  const judge = D.runs.map((_, r) => {
    for (let a = 0; a < D.runs.length; a++) if (beforeRun(a) === r && !comparing[r]) return a;
    return r;
  });
  return (run, i) => {
    if (!caseMask[i]) return false;
    const c = t.results[run];
    for (const k of tokens) {
      if (k.cases[i]) continue;
      if (!c || c.status[i] === NONE || !(k.observed[c.observed[i]] || k.strings[c.why[i]])) return false;
    }
    if ((status || outcome) && (!c || c.status[i] === NONE)) return false;
    if (status && !status[c.status[i]]) return false;
    if (outcome && (c.status[i] === NOTRUN || !outcome[c.observed[i]])) return false;
    if (S.changed || change) {
      const after = judge[run];
      const ch = comparing[after] ? changeOf(before[after], t.results[after], i) : 0;
      if (S.changed && !ch || change && !change[ch]) return false;
    }
    return true;
  };
}

function makeToken(t, token) {
  const cases = new Uint8Array(t.n);
  t.dimensions.forEach((d, j) => {
    const hit = d.values.map((v) => (d.name + "=" + v).toLowerCase().includes(token));
    if (!hit.includes(true)) return;
    const col = t.values[j];
    for (let i = 0; i < t.n; i++) if (hit[col[i]]) cases[i] = 1;
  });
  const rules = t.rules.map((r) => (r.name + " " + (r.because || "")).toLowerCase().includes(token));
  if (rules.includes(true)) for (let i = 0; i < t.n; i++) if (rules[t.caseRule[i]]) cases[i] = 1;
  if (token.includes(",") || token.includes("/")) {
    for (let i = 0; i < t.n; i++) if (!cases[i] && caseID(t, i).toLowerCase().includes(token)) cases[i] = 1;
  }
  return {
    cases,
    observed: D.observed.map((o) => [o.outcome, o.reason, o.message, o.code].join(" ").toLowerCase().includes(token)),
    strings: D.strings.map((s) => s.length < 2000 && s.toLowerCase().includes(token)),
  };
}

// fold sums up a table's shown results in cells: runs × facets × rows × columns.
const K = { bad: 7, notrun: 8, total: 9, quarantined: 10, latency: 11, timed: 12, changes: 13, flaky: 13 + CHANGES.length, size: 14 + CHANGES.length };

function fold(t, runs) {
  const axis = (names) => {
    const dims = names.map((n) => t.dim[n]);
    return { dims, sizes: dims.map((d) => t.dimensions[d].values.length), n: dims.reduce((p, d) => p * t.dimensions[d].values.length, 1) };
  };
  const f = { t, runs, rows: axis(S.rows), columns: axis(S.columns), facets: axis(S.facets) };
  f.cellsPerRun = f.rows.n * f.columns.n * f.facets.n;
  f.tooMany = f.cellsPerRun * runs.length > 400000;
  if (f.tooMany) return f;
  const at = new Int32Array(t.n);
  for (const a of [f.facets, f.rows, f.columns]) {
    a.dims.forEach((d, k) => {
      const col = t.values[d], size = a.sizes[k];
      for (let i = 0; i < t.n; i++) at[i] = at[i] * size + col[i];
    });
  }
  f.at = at;
  f.shown = makeFilter(t);
  f.cases = 0; f.results = 0;
  const seen = new Uint8Array(t.n);
  f.sums = runs.map((r) => {
    const sums = new Float64Array(f.cellsPerRun * K.size), c = t.results[r], b = beforeRun(r), before = b >= 0 ? t.results[b] : null;
    for (let i = 0; i < t.n; i++) {
      const s = c ? c.status[i] : NONE;
      if (s === NONE && b < 0 || !f.shown(r, i)) continue;
      const p = at[i] * K.size;
      if (b >= 0) sums[p + K.changes + changeOf(before, c, i)]++;
      if (s === NONE) continue;
      if (!seen[i]) { seen[i] = 1; f.cases++; }
      f.results++;
      sums[p + K.total]++;
      if (s === NOTRUN) { sums[p + K.notrun]++; continue; }
      sums[p + (S.by === "expected" ? D.expOutcome[expectedOf(t, c, i)] : D.obsOutcome[c.observed[i]])]++;
      if (s !== PASS) sums[p + K.bad]++;
      if (s === FLAKY) sums[p + K.flaky]++;
      if (c.quarantined[i]) sums[p + K.quarantined]++;
      if (c.latency[i]) { sums[p + K.latency] += c.latency[i]; sums[p + K.timed]++; }
    }
    return sums;
  });
  return f;
}
