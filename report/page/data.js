// SPDX-License-Identifier: Apache-2.0
// The report's data: unpacked, and in columns that are quick to walk.

const OUTCOMES = ["injected", "untouched", "denied", "failed", "rejected", "altered", ""];
const STATUS = { ".": 0, p: 1, f: 2, k: 3, e: 4, n: 5 };
const STATUSES = ["", "pass", "fail", "flaky", "error", "not-run"];
const [NONE, PASS, FAIL, FLAKY, ERROR, NOTRUN] = [0, 1, 2, 3, 4, 5];
const outcomeName = (o) => o || "nothing";

let D; // everything

async function load() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack the report's data (it lacks DecompressionStream): take one from 2023 or later");
  }
  const el = $("data");
  const text = atob(el.textContent.trim());
  el.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  D = await new Response(stream).json();
  if (!D.tables.length) throw new Error("the report holds no table");
  D.obsOutcome = D.observed.map((o) => OUTCOMES.indexOf(o.outcome || ""));
  D.expOutcome = D.expected.map((e) => OUTCOMES.indexOf(e.outcome || ""));
  D.tables.forEach((t, i) => {
    t.index = i;
    t.dim = {};
    t.dimensions.forEach((d, j) => { t.dim[d.name] = j; });
    t.values = t.values.map((v) => Uint16Array.from(v || []));
    t.caseRule = Int32Array.from(t.caseRule);
    t.caseExpected = Int32Array.from(t.caseExpected);
    t.results = t.results.map((c) => c && column(c, t.n));
    t.byID = null;
  });
}

function column(c, n) {
  const status = new Uint8Array(n), quarantined = new Uint8Array(n);
  for (let i = 0; i < c.status.length; i++) {
    const s = c.status[i], low = s.toLowerCase();
    status[i] = STATUS[low];
    if (s !== low) quarantined[i] = 1;
  }
  const ints = (v) => { const a = new Int32Array(n); if (v) a.set(v); return a; };
  return {
    status, quarantined, observed: ints(c.observed), attempted: ints(c.attempted), received: ints(c.received),
    latency: ints(c.latency), recovery: c.recovery ? ints(c.recovery) : null, tries: ints(c.tries), why: ints(c.why),
    rule: c.rule || {}, expected: c.expected || {}, more: c.more || {}, hasExpected: !!c.expected,
  };
}

function combination(t, i) {
  let s = "";
  for (let d = 0; d < t.dimensions.length; d++) {
    s += (d ? "," : "") + t.dimensions[d].name + "=" + t.dimensions[d].values[t.values[d][i]];
  }
  return s;
}

function caseID(t, i) { return (t.ids && t.ids[i]) || t.id + "/" + combination(t, i); }

function findCase(id) {
  for (const t of D.tables) {
    if (!id.startsWith(t.id + "/")) continue;
    if (!t.byID) {
      t.byID = new Map();
      for (let i = 0; i < t.n; i++) t.byID.set(caseID(t, i), i);
    }
    if (t.byID.has(id)) return { t, i: t.byID.get(id) };
  }
  return null;
}

const expectedOf = (t, c, i) => (c.hasExpected && i in c.expected ? c.expected[i] : t.caseExpected[i]);
const ruleOf = (t, c, i) => t.rules[i in c.rule ? c.rule[i] : t.caseRule[i]];

// What changed between two results; the same distinctions as `outrigger compare` makes.
const CHANGES = ["", "regression", "new-failure", "missing-case", "infrastructure", "changed-observation", "fixed", "new-case"];
const CHANGE_GLYPHS = ["", "▼", "✗", "−", "?", "≠", "▲", "+"];

function changeOf(before, after, i) {
  const was = before ? before.status[i] : NONE, is = after ? after.status[i] : NONE;
  const ranWas = was === PASS || was === FAIL || was === FLAKY, ranIs = is === PASS || is === FAIL || is === FLAKY;
  if (is === ERROR) return 4;
  if (!ranIs) return ranWas ? 3 : 0;
  const bad = is !== PASS;
  if (!ranWas) return bad ? 2 : 7;
  if (was === PASS && bad) return 1;
  if (was !== PASS && !bad) return 6;
  if (was !== is) return 5; // fail and flaky
  const a = before.observed[i], b = after.observed[i];
  if (a !== b && D.observedKeys[a] !== D.observedKeys[b] && !sameWithoutDigest(a, b)) return 5;
  const differ = (x, y) => x >= 0 && y >= 0 && x !== y;
  return differ(before.attempted[i], after.attempted[i]) || differ(before.received[i], after.received[i]) ? 5 : 0;
}

// Digests are compared only where both are known.
function sameWithoutDigest(a, b) {
  const x = D.observed[a], y = D.observed[b];
  return (!x.digest || !y.digest) && ["outcome", "code", "reason", "failedOpen"].every((k) => (x[k] || 0) === (y[k] || 0));
}

// beforeRun is the index of the run that run r is compared with, or -1.
function beforeRun(r) {
  if (S.compare === "") return -1;
  if (S.compare === "baseline") return D.runs[r].partner;
  const i = D.runs.findIndex((x) => runKey(x) === S.compare);
  return i === r ? -1 : i;
}

const runKey = (run) => (run.before ? "before:" : "") + run.id;

// Columns differ in some parts of their names only; those make the short name.
function runNames(runs) {
  const parts = [(r) => r.lane, (r) => r.kubernetes, (r) => r.routing || "", (r) => r.target.name + (r.target.version ? " " + r.target.version : "")];
  const varying = parts.filter((p) => new Set(D.runs.map(p)).size > 1);
  return runs.map((r) => (D.runs[r].before ? "before: " : "") +
    ((varying.length ? varying : parts.slice(0, 2)).map((p) => p(D.runs[r])).filter(Boolean).join(" · ") || D.runs[r].id));
}
