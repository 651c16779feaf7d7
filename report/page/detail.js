// SPDX-License-Identifier: Apache-2.0
// The panel: what is in a cell, and everything about one case.

let returnTo = null;

function openPanel(...content) {
  const panel = $("panel");
  if (panel.hidden) returnTo = document.activeElement;
  panel.replaceChildren(h("button.close", { type: "button", "aria-label": "Close", click: closePanel }, "×"), ...content);
  panel.hidden = false;
  document.body.classList.add("with-panel");
  hideTip();
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}

function closePanel() {
  $("panel").hidden = true;
  document.body.classList.remove("with-panel");
  S.cell = S.case = null;
  writeHash();
  if (returnTo && returnTo.isConnected) returnTo.focus();
}

function shareLink() {
  return h("button.quiet", { type: "button", click: (e) => copy(location.href, e.target) }, "Copy link");
}

function copy(text, button) {
  const done = () => { const was = button.textContent; button.textContent = "Copied"; say("Copied"); setTimeout(() => { button.textContent = was; }, 1500); };
  if (navigator.clipboard && window.isSecureContext) { navigator.clipboard.writeText(text).then(done, () => byHand(text, done)); return; }
  byHand(text, done);
}

// A page from disk is no secure context in every browser.
function byHand(text, done) {
  const area = h("textarea.offscreen", {});
  area.value = text;
  document.body.append(area);
  area.select();
  if (document.execCommand("copy")) done();
  area.remove();
}

function openCell(k, p) {
  const f = F, r = f.runs[k], c = f.t.results[r], list = [];
  for (let i = 0; i < f.t.n; i++) {
    if (f.at[i] === p && f.shown(r, i) && (c && c.status[i] !== NONE || beforeRun(r) >= 0 && f.t.results[beforeRun(r)] && f.t.results[beforeRun(r)].status[i] !== NONE)) list.push(i);
  }
  if (list.length === 1) { openCase(list[0], r); return; }
  S.cell = cellKey(f, k, p);
  S.case = null;
  writeHash();
  const weight = (i) => (c ? [9, 5, 0, 1, 2, 4][c.status[i]] : 9);
  list.sort((a, b) => weight(a) - weight(b) || a - b);
  openPanel(
    h("h2", {}, cellName(f, p)),
    h("p.quiet", {}, runNames([r])[0] + " · " + cellWords(f, k, p, "")),
    shareLink(),
    caseList(f.t, list.map((i) => [i, r]), 100),
  );
}

// caseList is a list of cases that grows on demand.
function caseList(t, pairs, step) {
  const ul = h("ul.cases", {}), more = h("button", { type: "button" }, "Show more");
  let n = 0;
  const grow = () => {
    for (const [i, r] of pairs.slice(n, n + step)) ul.append(caseLine(t, i, r));
    n = Math.min(n + step, pairs.length);
    more.hidden = n === pairs.length;
    more.textContent = "Show more (" + number(pairs.length - n) + ")";
  };
  more.addEventListener("click", grow);
  grow();
  return h("div", {}, ul, more);
}

function caseLine(t, i, r) {
  const c = t.results[r], s = c ? c.status[i] : NONE;
  const b = beforeRun(r), ch = b >= 0 ? changeOf(t.results[b], c, i) : 0;
  const words = s === NONE ? "no result" : s === NOTRUN ? "not run" :
    "expected " + outcomeName(OUTCOMES[D.expOutcome[expectedOf(t, c, i)]]) + ", observed " + outcomeName(OUTCOMES[D.obsOutcome[c.observed[i]]]);
  return h("li", {}, h("button.case", { type: "button", click: () => openCase(i, r) },
    badge(s, c && c.quarantined[i]), ch ? h("span.badge.change", {}, CHANGE_GLYPHS[ch] + " " + CHANGES[ch]) : null,
    h("span.id", {}, combinationNodes(t, i)), h("span.quiet", {}, words + (F.runs.length > 1 ? " · " + runNames([r])[0] : ""))));
}

// Long combinations may break after a comma.
function combinationNodes(t, i) {
  const span = h("span", {});
  combination(t, i).split(",").forEach((part, k, all) => span.append(part + (k < all.length - 1 ? "," : ""), h("wbr", {})));
  return span;
}

function badge(s, quarantined) {
  const sign = ["∅", "✓", "✗", "~", "!", "–"][s];
  return h("span.badge.s-" + (STATUSES[s] || "none"), {}, sign + " " + (STATUSES[s] || "no result") + (quarantined ? ", quarantined" : ""));
}

function openCase(i, r) {
  const t = D.tables[S.table], id = caseID(t, i);
  S.case = { i, run: r };
  S.cell = null;
  writeHash();
  const parts = [
    h("p.quiet", {}, t.id + (t.title ? " – " + t.title : "")),
    h("h2.id", {}, combinationNodes(t, i)),
    h("p", {}, shareLink(), " ", h("button.quiet", { type: "button", click: (e) => copy(id, e.target) }, "Copy ID")),
  ];
  const runs = D.runs.map((_, k) => k).filter((k) => t.results[k] && t.results[k].status[i] !== NONE);
  const c = t.results[r] && t.results[r].status[i] !== NONE ? t.results[r] : t.results[runs[0]];
  const rule = ruleOf(t, c, i);
  if (rule) {
    parts.push(h("section.rule", {}, h("h3", {}, "Rule: " + rule.name),
      rule.because ? h("blockquote", {}, rule.because) : null,
      h("p.quiet", {}, [rule.when ? "when " + rule.when : "", rule.given ? "given " + rule.given : "", rule.source ? "source: " + rule.source : ""].filter(Boolean).join(" · "))));
  }
  const names = runNames(runs);
  parts.push(h("h3", {}, "Expected and observed"), h("div.scroll", {}, h("table.plain", {},
    h("thead", {}, h("tr", {}, ...["run", "", "expected", "observed", "attempted", "received", "latency"].map((x) => h("th", { scope: "col" }, x)))),
    h("tbody", {}, ...runs.map((k, n) => resultRow(t, t.results[k], i, names[n], k === r))))));
  const first = runs.includes(r) ? [r, ...runs.filter((k) => k !== r)] : runs;
  for (const k of first) {
    const more = details(t, k, i, runs.length > 1 ? names[runs.indexOf(k)] : "");
    if (more) parts.push(more);
  }
  openPanel(...parts);
}

function resultRow(t, c, i, name, current) {
  const e = D.expected[expectedOf(t, c, i)], o = D.observed[c.observed[i]], s = c.status[i];
  const count = (n) => (s === NOTRUN ? "" : n < 0 ? "unknown" : String(n));
  const obs = s === NOTRUN ? [] : [o.outcome || "nothing", o.code, o.reason, o.failedOpen ? "failed open" : ""];
  const exp = [e.outcome, e.code, e.reason, e.failedOpen ? "failed open" : "", e.attempted ? "attempted " + e.attempted : "", e.received ? "received " + e.received : ""];
  return h("tr", { "aria-current": current ? "true" : null }, h("th", { scope: "row" }, name), h("td", {}, badge(s, c.quarantined[i])),
    h("td", {}, exp.filter(Boolean).join(", ")), h("td", {}, obs.filter(Boolean).join(", ")),
    h("td.n", {}, count(c.attempted[i])), h("td.n", {}, count(c.received[i])), h("td.n", {}, micros(c.latency[i])));
}

function details(t, r, i, name) {
  const c = t.results[r], more = c.more[i] || {}, o = D.observed[c.observed[i]], box = [];
  if (c.why[i]) box.push(h("p.why", {}, D.strings[c.why[i]]));
  if (o.message) box.push(h("p", {}, h("span.quiet", {}, "message: "), o.message));
  if (c.tries[i] > 1) box.push(h("p", {}, plural(c.tries[i], "try").replace("trys", "tries")));
  if (c.recovery && c.recovery[i]) box.push(h("p", {}, "recovered after " + micros(c.recovery[i])));
  if (more.timeline) {
    box.push(h("ol.timeline", {}, ...more.timeline.map((m) => h("li", {}, h("b", {}, m.step || micros(Math.round(m.atNanos / 1000))), " " + m.what + (m.outcome ? ": " + m.outcome : "") + (m.recoveryNanos ? " after " + micros(Math.round(m.recoveryNanos / 1000)) : "") + (m.message ? " (" + m.message + ")" : ""), m.why ? h("div.alarm", {}, (m.rule || "") + ": " + m.why) : null))));
  }
  if (more.patch) box.push(h("h4", {}, "The webhook's patch"), patchDiff(D.strings[more.patch], more.review ? D.strings[more.review] : ""));
  else if (Object.hasOwn(D.effects, o.digest)) box.push(...effectOf(t, r, i, o.digest));
  if (more.review) box.push(h("details", {}, h("summary", {}, "The review that was sent"), h("pre", {}, pretty(D.strings[more.review]))));
  if (more.artefacts) box.push(h("h4", {}, "Artefacts"), h("ul", {}, ...more.artefacts.map((a) => h("li", {}, artefact(a)))));
  const run = D.runs[r], command = more.rerun || (run.rerun ? run.rerun.replaceAll("{case}", quote(caseID(t, i))) : "");
  if (command) {
    box.push(h("h4", {}, "Run just this case"), h("div.command", {}, h("pre", {}, command), h("button", { type: "button", click: (e) => copy(command, e.target) }, "Copy")));
  }
  if (!box.length) return null;
  return h("section.result", {}, name ? h("h3", {}, name) : null, ...box);
}

const quote = (s) => "'" + s.replaceAll("'", "'\\''") + "'";

// Only relative paths become links; a report from elsewhere must not choose where a click goes.
function artefact(path) {
  if (/^[A-Za-z][A-Za-z0-9+.-]*:|^[\\/]|\.\.|[\u0000-\u001f]/.test(path)) return h("code", {}, path);
  return h("a", { href: "./" + path.split("/").map(encodeURIComponent).join("/") }, path);
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function lookUp(doc, pointer) {
  let at = doc;
  for (const part of pointer.split("/").slice(1)) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined;
    at = at[key];
  }
  return at;
}

// patchDiff shows a JSON patch as what goes and what comes, with the old values from the review where it is there.
function patchDiff(patch, review) {
  let ops, object;
  try { ops = JSON.parse(patch); } catch { ops = null; }
  if (!Array.isArray(ops)) return h("pre", {}, patch);
  try { object = JSON.parse(review).request.object; } catch { object = undefined; }
  const pre = h("pre.diff", {});
  const lines = (cls, sign, value) => pretty(JSON.stringify(value)).split("\n").forEach((l) => pre.append(h("span." + cls, {}, sign + " " + l + "\n")));
  for (const op of ops) {
    if (!op || typeof op !== "object") continue;
    pre.append(h("span.at", {}, "@ " + op.op + " " + op.path + (op.from ? " from " + op.from : "") + "\n"));
    const old = object === undefined ? undefined : lookUp(object, String(op.path));
    if (op.op === "remove" || op.op === "replace" || op.op === "add" && old !== undefined && !Array.isArray(parentOf(object, String(op.path)))) {
      if (old !== undefined) lines("minus", "−", old);
      else pre.append(h("span.minus", {}, "− (what was there)\n"));
    }
    if (op.op === "add" || op.op === "replace" || op.op === "test") lines("plus", "+", op.value);
  }
  return pre;
}

// effectOf shows what the webhooks made of the object, or, where another run is compared with that saw it otherwise, in what
// the one differs from the other.
function effectOf(t, r, i, digest) {
  const b = beforeRun(r), was = b >= 0 && t.results[b] && t.results[b].status[i] !== NONE ? D.observed[t.results[b].observed[i]].digest : "";
  const before = was && was !== digest ? was === "none" ? [] : D.effects[was] : null;
  const title = before ? "What the webhooks' patches do otherwise than before" : "What the webhooks' patches do";
  return [h("h4", {}, title), effectDiff(D.effects[digest], before)];
}

// changesOf are the lines of an effect by webhook and place; null stands for what goes.
function changesOf(lines) {
  const places = new Map();
  let webhook = "";
  for (const line of lines) {
    if (line[0] !== "/") { webhook = line; continue; }
    const at = line.indexOf(" = ");
    if (at < 0) places.set(webhook + " " + line.replace(/ goes$/, ""), null);
    else places.set(webhook + " " + line.slice(0, at), line.slice(at + 3));
  }
  return places;
}

function effectDiff(lines, before) {
  const is = changesOf(lines), was = before ? changesOf(before) : new Map(), pre = h("pre.diff", {});
  const write = (cls, sign, text) => pretty(text).split("\n").forEach((l) => pre.append(h("span." + cls, {}, sign + " " + l + "\n")));
  let webhook = "";
  for (const place of [...new Set([...was.keys(), ...is.keys()])].sort()) {
    if (before && was.has(place) && is.has(place) && was.get(place) === is.get(place)) continue;
    const [name, ...path] = place.split(" ");
    if (name !== webhook) pre.append(h("b", {}, (webhook = name) + "\n"));
    pre.append(h("span.at", {}, "@ " + path.join(" ") + "\n"));
    if (before && was.has(place)) write(was.get(place) === null ? "plus" : "minus", was.get(place) === null ? "+" : "−", was.get(place) === null ? "(it stays)" : was.get(place));
    if (is.has(place)) write(is.get(place) === null ? "minus" : "plus", is.get(place) === null ? "−" : "+", is.get(place) === null ? "(what was there)" : is.get(place));
  }
  return pre;
}

const parentOf = (doc, pointer) => (doc === undefined ? undefined : lookUp(doc, pointer.slice(0, pointer.lastIndexOf("/"))));

let tipTimer = 0;
function showTip(td) {
  const f = F, p = +td.dataset.p, k = +td.dataset.k, tip = $("tip");
  clearTimeout(tipTimer);
  const lines = [h("b", {}, cellName(f, p)), h("span.quiet", {}, runNames([f.runs[k]])[0]), h("span", {}, cellWords(f, k, p, ""))];
  const one = onlyCase(f, k, p);
  if (one >= 0) {
    const c = f.t.results[f.runs[k]];
    const rule = c && ruleOf(f.t, c, one);
    if (rule) lines.push(h("i", {}, rule.name + ": " + (rule.because || rule.outcome)));
  }
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const box = td.getBoundingClientRect(), w = tip.offsetWidth, hh = tip.offsetHeight;
  tip.style.left = Math.max(4, Math.min(box.left, innerWidth - w - 8)) + "px";
  tip.style.top = (box.bottom + hh + 8 < innerHeight ? box.bottom + 6 : Math.max(4, box.top - hh - 6)) + "px";
}

function onlyCase(f, k, p) {
  if (f.sums[k][p * K.size + K.total] !== 1) return -1;
  for (let i = 0; i < f.t.n; i++) if (f.at[i] === p && f.shown(f.runs[k], i)) return i;
  return -1;
}

function hideTip() { $("tip").hidden = true; }
