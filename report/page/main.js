// SPDX-License-Identifier: Apache-2.0
// The controls, and what happens when they are used.

function build() {
  const app = $("app");
  app.hidden = false;
  app.append(
    h("nav.tables", { id: "tables", "aria-label": "Tables" }),
    h("section", { "aria-labelledby": "matrix-h" },
      h("h2", { id: "matrix-h" }, ""),
      h("p.quiet", { id: "subtitle" }),
      h("div.bar", { role: "search" },
        h("label", {}, "Filter ", h("input", { id: "q", type: "search", placeholder: "words: policy=disabled, a rule, a message …  ( / )", size: 34, autocomplete: "off", input: onText })),
        h("label", {}, "Colour by ", h("select", { id: "by", change: (e) => { S.by = e.target.value; draw(); } })),
        h("label", { id: "compare-l" }, "Compare with ", h("select", { id: "compare", change: onCompare })),
        h("label", { id: "changed-l" }, h("input", { id: "changed", type: "checkbox", change: (e) => { S.changed = e.target.checked; draw(); } }), " changed only"),
        h("button", { type: "button", id: "clear", click: clearFilters }, "Clear filters")),
      h("details", { id: "pivot-d" }, h("summary", {}, "Rows, columns, facets and dimension filters"), h("div.pivot", { id: "pivot" })),
      h("details", { id: "results-d" }, h("summary", {}, "Filter by run, status, outcome, change"), h("div.checks", { id: "checks" })),
      h("ul.legend", { id: "legend", "aria-label": "Legend" }),
      h("p", { id: "count", "aria-live": "polite" }),
      h("div", { id: "matrix" })),
    h("div", { id: "charts" }),
    h("section", { "aria-labelledby": "list-h" }, h("h2", { id: "list-h" }, "Cases"), h("div", { id: "list" })),
  );
  const box = $("matrix");
  box.addEventListener("click", (e) => { const td = e.target.closest("td[data-p]"); if (td) openCell(+td.dataset.k, +td.dataset.p); });
  box.addEventListener("pointerover", (e) => { const td = e.target.closest("td[data-p]"); if (td && e.pointerType !== "touch") showTip(td); else hideTip(); });
  box.addEventListener("pointerleave", hideTip);
  box.addEventListener("focusin", (e) => { const td = e.target.closest("td[data-p]"); if (td && td.matches(":focus-visible")) showTip(td); });
  box.addEventListener("focusout", hideTip);
  box.addEventListener("keydown", (e) => {
    const td = e.target.closest("td[data-p]");
    if (!td) return;
    if (e.key === "Enter" || e.key === " ") { e.preventDefault(); openCell(+td.dataset.k, +td.dataset.p); }
    if (/^(Arrow|Home$|End$)/.test(e.key)) { e.preventDefault(); moveFocus(td, e.key); }
  });
  addEventListener("keydown", (e) => {
    if (e.key === "Escape") { if (!$("panel").hidden) closePanel(); hideTip(); }
    if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { e.preventDefault(); $("q").focus(); }
  });
  addEventListener("scroll", hideTip, { passive: true });
  addEventListener("hashchange", () => { if (location.hash !== lastHash) { readHash(); draw(); openFromState(); } });
  for (const li of document.querySelectorAll("[data-description]")) {
    const d = D.descriptions[+li.dataset.description];
    if (!d) continue;
    d.alternatives.slice(0, 6).forEach((alt, n, all) => {
      li.append(" ", h("button.quiet", { type: "button", click: () => showAlternative(d, alt) }, all.length > 1 ? "Show " + (n + 1) : "Show"));
    });
  }
  const still = $("static-failing");
  if (still) still.hidden = true; // the list of cases below the matrix has them, and more
}

// showAlternative filters by one conjunction of a description.
function showAlternative(d, alt) {
  const i = D.tables.findIndex((t) => t.id === d.table);
  if (i < 0) return;
  if (i !== S.table) { S.table = i; resetPivot(D.tables[i]); }
  S.dims = {}; S.outcome = []; S.change = []; S.changed = false; S.status = []; S.text = "";
  for (const term of alt) {
    if (term.dimension in D.tables[i].dim) S.dims[term.dimension] = term.values;
    else if (term.dimension === "rule" && term.values.length === 1) S.text = term.values[0];
  }
  S.status = ["fail", "flaky"];
  S.runs = d.runs.slice();
  draw();
  $("matrix-h").scrollIntoView();
}

function onText(e) { S.text = e.target.value; draw(true); }

function onCompare(e) {
  S.compare = e.target.value;
  if (S.compare) S.by = "change";
  else { S.changed = false; S.change = []; if (S.by === "change") S.by = "agreement"; }
  draw();
}

function clearFilters() {
  S.text = ""; S.dims = {}; S.status = []; S.outcome = []; S.change = []; S.runs = []; S.changed = false;
  draw();
  $("q").focus();
}

function controls() {
  const t = D.tables[S.table];
  $("tables").replaceChildren(...D.tables.map((x, i) => h("button", { type: "button", "aria-pressed": i === S.table ? "true" : "false", click: () => { if (i === S.table) return; S.table = i; S.dims = {}; S.runs = []; S.case = S.cell = null; resetPivot(x); draw(); } },
    x.id, " ", h("span.quiet", {}, number(x.n)), badCount(x) ? h("span.badge.s-fail", {}, "✗ " + number(badCount(x))) : null)));
  const chosen = $("tables").children[S.table]; // where the tables scroll, as on a phone
  $("tables").scrollTop = chosen.offsetTop - $("tables").offsetTop;
  $("matrix-h").textContent = t.id;
  $("subtitle").textContent = [t.title, plural(t.n, "case"), plural(t.dimensions.length, "dimension"), plural(t.rules.length, "rule")].filter(Boolean).join(" · ");
  if ($("q").value !== S.text) $("q").value = S.text;
  $("by").replaceChildren(...Object.entries(MODES).filter(([k]) => k !== "change" || S.compare).map(([k, v]) => option(k, v, k === S.by)));
  const others = D.runs.filter((r) => !r.before);
  $("compare-l").hidden = !D.comparison && others.length < 2;
  $("compare").replaceChildren(option("", "nothing", !S.compare), ...(D.comparison ? [option("baseline", "the baseline", S.compare === "baseline")] : []),
    ...(others.length > 1 ? others.map((r) => option(runKey(r), r.id, S.compare === runKey(r))) : []));
  $("changed-l").hidden = !S.compare;
  $("changed").checked = S.changed;
  $("pivot").replaceChildren(...t.dimensions.map((d) => pivotRow(d)),
    h("button", { type: "button", click: () => { [S.rows, S.columns] = [S.columns, S.rows]; draw(); } }, "Swap rows and columns"));
  const checks = [check("Run", D.runs.map((r, i) => [i, r]).filter(([, r]) => !r.before).map(([i, r]) => [i, r.id]), "runs"),
    check("Status", STATUSES.slice(1).map((s) => [s, s]), "status"), check("Observed", OUTCOMES.map((o) => [o, outcomeName(o)]), "outcome")];
  if (S.compare) checks.push(check("Change", CHANGES.slice(1).map((c) => [c, c]), "change"));
  $("checks").replaceChildren(...checks);
}

function badCount(t) {
  if (t.bad === undefined) {
    t.bad = 0;
    t.results.forEach((c, r) => { if (c && !D.runs[r].before) for (let i = 0; i < t.n; i++) if (c.status[i] >= FAIL && c.status[i] <= ERROR) t.bad++; });
  }
  return t.bad;
}

function pivotRow(d) {
  const place = ["rows", "columns", "facets"].find((a) => S[a].includes(d.name)) || "";
  const kept = S.dims[d.name];
  return h("fieldset", { "data-dimension": d.name }, h("legend", { title: d.title || null }, d.name),
    h("label", {}, h("span.offscreen", {}, "place of " + d.name), h("select", { change: (e) => {
      for (const a of ["rows", "columns", "facets"]) S[a] = S[a].filter((x) => x !== d.name);
      if (e.target.value) S[e.target.value].push(d.name);
      S.cell = null;
      draw();
      const again = document.querySelector(`fieldset[data-dimension="${CSS.escape(d.name)}"] select`);
      if (again) again.focus();
    } }, ...[["", "folded"], ["rows", "rows"], ["columns", "columns"], ["facets", "facets"]].map(([v, l]) => option(v, l, v === place)))),
    h("details", { open: !!kept }, h("summary", {}, kept ? kept.length + " of " + d.values.length : "all " + d.values.length),
      ...d.values.map((v) => {
        const box = h("input", { type: "checkbox", value: v, change: () => {
          const now = [...box.closest("details").querySelectorAll("input")].filter((x) => x.checked).map((x) => x.value);
          if (now.length === d.values.length || !now.length) delete S.dims[d.name];
          else S.dims[d.name] = now;
          draw(true);
        } });
        box.checked = !kept || kept.includes(v);
        return h("label.value", {}, box, " " + v);
      })));
}

function check(title, entries, key) {
  return h("fieldset", {}, h("legend", {}, title), ...entries.map(([v, label]) => {
    const box = h("input", { type: "checkbox", "data-filter": key + ":" + v, change: () => {
      S[key] = box.checked ? [...S[key], v] : S[key].filter((x) => x !== v);
      draw(true);
    } });
    box.checked = S[key].includes(v);
    return h("label.value", {}, box, " " + label);
  }));
}

// draw shows the state. With keep, the controls stay as they are: whoever types must not lose the place.
function draw(keep) {
  const began = performance.now();
  document.documentElement.dataset.by = S.by;
  hideTip();
  if (!keep) controls();
  drawMatrix();
  if (F.tooMany) $("count").textContent = "";
  else $("count").textContent = plural(F.cases, "case") + " of " + number(F.t.n) + ", " + plural(F.results, "result");
  writeHash();
  document.documentElement.dataset.took = (performance.now() - began).toFixed(1);
  clearTimeout(later);
  later = setTimeout(() => { drawList(); drawCharts(); document.documentElement.dataset.settled = String(++settled); }, keep ? 120 : 0);
}
let later = 0, settled = 0;

function drawList() {
  const f = F;
  if (!f || f.tooMany) { $("list").replaceChildren(); return; }
  const groups = [[], [], [], [], [], []];
  f.runs.forEach((r) => {
    const c = f.t.results[r], b = beforeRun(r);
    if (!c || S.compare && D.runs[r].before) return;
    for (let i = 0; i < f.t.n; i++) {
      if (c.status[i] === NONE && !(b >= 0 && f.t.results[b] && f.t.results[b].status[i]) || !f.shown(r, i)) continue;
      groups[c.status[i]].push([i, r]);
    }
  });
  $("list").replaceChildren(caseList(f.t, [FAIL, FLAKY, ERROR, NONE, NOTRUN, PASS].flatMap((s) => groups[s]), 50));
}

function openFromState() {
  if (S.case) { openCase(S.case.i, S.case.run); return; }
  if (!S.cell && !$("panel").hidden) closePanel();
  if (!S.cell || !F || F.tooMany) return;
  for (let k = 0; k < F.runs.length; k++) {
    for (let p = 0; p < F.cellsPerRun; p++) if (cellKey(F, k, p) === S.cell) { openCell(k, p); return; }
  }
}

load().then(() => {
  build();
  readHash();
  draw();
  drawMore();
  openFromState();
  document.documentElement.dataset.ready = performance.now().toFixed(0);
}).catch((e) => {
  $("problem").textContent = "The matrix cannot be shown: " + e.message + ". The summary below is complete.";
  $("problem").hidden = false;
  document.documentElement.dataset.problem = String(e.stack || e);
});
