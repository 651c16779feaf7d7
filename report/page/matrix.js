// SPDX-License-Identifier: Apache-2.0
// The matrix as a picture: real tables, so that it can be read aloud, printed, and walked through with the arrow keys.

const MAX_CELLS = 6000; // elements that are drawn at once

let F = null; // the fold that is shown

// look says how a cell appears: class, sign, and how much of it has which colour.
function look(sums, p, isBefore) {
  const by = S.by === "change" && isBefore ? "outcome" : S.by; // what was before shows itself, not a change
  const total = sums[p + K.total], notrun = sums[p + K.notrun], ran = total - notrun, bad = sums[p + K.bad];
  if (by === "change") {
    for (let k = 1; k < CHANGES.length; k++) if (sums[p + K.changes + k]) return { cls: "ch-" + CHANGES[k], sign: CHANGE_GLYPHS[k] };
    return total ? { cls: "same", sign: "" } : { cls: "empty", sign: "" };
  }
  if (!total) return { cls: "empty", sign: "" };
  if (!ran) return { cls: "notrun", sign: "–" };
  if (by === "agreement") {
    if (!bad) return { cls: "agree", sign: "✓" };
    if (bad === sums[p + K.quarantined]) return { cls: "quarantined", sign: "⚑" };
    return { cls: bad === ran ? "disagree" : "disagree partly", sign: sums[p + K.flaky] === bad ? "~" : "✗", share: bad / ran };
  }
  if (by === "latency") {
    if (!sums[p + K.timed]) return { cls: "notrun", sign: "–" };
    const mean = sums[p + K.latency] / sums[p + K.timed];
    return { cls: "heat", sign: micros(Math.round(mean)), heat: mean };
  }
  const parts = [];
  for (let o = 0; o < OUTCOMES.length; o++) if (sums[p + o]) parts.push([o, sums[p + o] / ran]);
  let sign = "◐";
  if (parts.length === 1) sign = ["●", "·", "⊘", "✕", "○", "≈", "?"][parts[0][0]];
  return { cls: parts.length === 1 ? "o-" + outcomeName(OUTCOMES[parts[0][0]]) : "mixed", sign, parts, wrong: bad > 0 && by === "outcome" };
}

function cellWords(f, k, p, name) {
  const s = f.sums[k], q = p * K.size, n = s[q + K.total];
  const words = [];
  if (!n) words.push("no result");
  else {
    words.push(plural(n, "case"));
    const parts = [];
    for (let o = 0; o < OUTCOMES.length; o++) if (s[q + o]) parts.push(number(s[q + o]) + " " + (S.by === "expected" ? "expected " : "") + outcomeName(OUTCOMES[o]));
    if (parts.length) words.push(parts.join(", "));
    if (s[q + K.bad]) words.push(number(s[q + K.bad]) + " not as the table says");
    else if (n > s[q + K.notrun]) words.push("as the table says");
    if (s[q + K.quarantined]) words.push(number(s[q + K.quarantined]) + " in quarantine");
    if (s[q + K.notrun]) words.push(number(s[q + K.notrun]) + " not run");
    if (s[q + K.timed]) words.push("mean latency " + micros(Math.round(s[q + K.latency] / s[q + K.timed])));
  }
  if (S.compare) for (let c = 1; c < CHANGES.length; c++) if (s[q + K.changes + c]) words.push(number(s[q + K.changes + c]) + " " + CHANGES[c]);
  return (name ? name + ": " : "") + words.join("; ");
}

function axisValues(f, axis, p) {
  const out = new Array(axis.dims.length);
  for (let k = axis.dims.length - 1; k >= 0; k--) {
    const d = f.t.dimensions[axis.dims[k]];
    out[k] = d.values[p % axis.sizes[k]];
    p = Math.floor(p / axis.sizes[k]);
  }
  return out;
}

function cellName(f, p) {
  const c = p % f.columns.n, r = Math.floor(p / f.columns.n) % f.rows.n, x = Math.floor(p / f.columns.n / f.rows.n);
  const pairs = (axis, q) => axisValues(f, axis, q).map((v, k) => f.t.dimensions[axis.dims[k]].name + "=" + v);
  return [...pairs(f.facets, x), ...pairs(f.rows, r), ...pairs(f.columns, c)].join(", ") || "all cases";
}

const cellKey = (f, k, p) => cellName(f, p).replaceAll(", ", ",") + "@" + runKey(D.runs[f.runs[k]]);

function drawMatrix() {
  const t = D.tables[S.table], runs = shownRuns(), box = $("matrix");
  const f = F = fold(t, runs);
  box.replaceChildren();
  if (f.tooMany) {
    box.append(h("p.notice", {}, "That would be " + number(f.cellsPerRun * runs.length) + " cells. Fold some dimensions."));
    return;
  }
  drawLegend();
  // Rows, columns and facets in which nothing is left are not drawn, in any of the pictures, so that they stay alike.
  const rowOn = new Uint8Array(f.rows.n), colOn = new Uint8Array(f.columns.n), facetOn = new Uint8Array(f.facets.n);
  for (const s of f.sums) {
    for (let p = 0; p < f.cellsPerRun; p++) {
      let any = s[p * K.size + K.total];
      if (!any && S.compare) for (let c = 1; c < CHANGES.length; c++) any += s[p * K.size + K.changes + c];
      if (!any) continue;
      colOn[p % f.columns.n] = 1;
      rowOn[Math.floor(p / f.columns.n) % f.rows.n] = 1;
      facetOn[Math.floor(p / f.columns.n / f.rows.n)] = 1;
    }
  }
  const on = (a) => [...a.keys()].filter((i) => a[i]);
  const rows = on(rowOn), cols = on(colOn), facets = on(facetOn);
  if (!facets.length) {
    box.append(h("p.notice", {}, "No case is left by these filters. ", h("button", { type: "button", click: clearFilters }, "Clear the filters")));
    return;
  }
  let hottest = 1;
  if (S.by === "latency") for (const s of f.sums) for (let p = 0; p < f.cellsPerRun; p++) {
    const q = p * K.size;
    if (s[q + K.timed]) hottest = Math.max(hottest, s[q + K.latency] / s[q + K.timed]);
  }
  const names = runNames(runs);
  let drawn = 0, left = 0;
  for (const x of facets) {
    const group = h("div.multiples", {});
    if (f.facets.dims.length) {
      group.append(h("h3", {}, axisValues(f, f.facets, x).map((v, k) => t.dimensions[f.facets.dims[k]].name + "=" + v).join(", ")));
    }
    runs.forEach((r, k) => {
      if (drawn && drawn + rows.length * cols.length > MAX_CELLS) { left++; return; }
      drawn += rows.length * cols.length;
      group.append(figure(f, k, x, rows, cols, names[k], hottest));
    });
    if (group.querySelector("figure")) box.append(group);
  }
  if (left) box.append(h("p.notice", {}, plural(left, "further picture") + " are not drawn; filter, or fold some dimensions, to see them."));
  const first = box.querySelector("td[data-p]");
  if (first) first.tabIndex = 0;
}

function figure(f, k, x, rows, cols, name, hottest) {
  const t = f.t, table = h("table.grid", { role: "grid", "aria-label": name });
  const head = h("thead", {});
  f.columns.dims.forEach((d, level) => {
    const tr = h("tr", {});
    if (f.rows.dims.length) {
      tr.append(h("th.corner", { colspan: f.rows.dims.length, scope: "row" }, h("span.dim", {}, t.dimensions[d].name + " →")));
    }
    const span = spans(cols, f.columns, level);
    for (const s of span) {
      const v = axisValues(f, f.columns, s.at)[level];
      tr.append(h("th", { scope: s.n > 1 ? "colgroup" : "col", colspan: s.n > 1 ? s.n : null, title: t.dimensions[d].name + "=" + v }, h("span", {}, v)));
    }
    head.append(tr);
  });
  if (f.rows.dims.length) {
    head.append(h("tr", {}, ...f.rows.dims.map((d) => h("th.corner", { scope: "col" }, h("span.dim", {}, t.dimensions[d].name + " ↓"))),
      ...(cols.length ? [h("td.filler", { colspan: cols.length })] : [])));
  }
  const body = h("tbody", {});
  const rowSpans = f.rows.dims.map((_, level) => spans(rows, f.rows, level));
  rows.forEach((r, ri) => {
    const tr = h("tr", {});
    const values = axisValues(f, f.rows, r);
    f.rows.dims.forEach((d, level) => {
      const s = rowSpans[level].find((y) => y.from === ri);
      if (s) tr.append(h("th", { scope: s.n > 1 ? "rowgroup" : "row", rowspan: s.n > 1 ? s.n : null, title: t.dimensions[d].name + "=" + values[level] }, values[level]));
    });
    for (const c of cols) {
      const p = (x * f.rows.n + r) * f.columns.n + c;
      tr.append(cellElement(f, k, p, hottest));
    }
    body.append(tr);
  });
  table.append(head, body);
  return h("figure", {}, h("figcaption", {}, name), h("div.scroll", {}, table));
}

// spans joins neighbours that share their values up to a level into one heading.
function spans(list, axis, level) {
  const size = axis.sizes.slice(level + 1).reduce((a, b) => a * b, 1), out = [];
  list.forEach((p, i) => {
    const key = Math.floor(p / size), last = out[out.length - 1];
    if (last && last.key === key) last.n++;
    else out.push({ key, at: p, from: i, n: 1 });
  });
  return out;
}

function cellElement(f, k, p, hottest) {
  const l = look(f.sums[k], p * K.size, beforeRun(f.runs[k]) < 0);
  const td = document.createElement("td");
  td.className = "cell " + l.cls + (l.wrong ? " wrong" : "");
  td.textContent = l.sign;
  if (l.cls === "empty") return td;
  td.dataset.p = p;
  td.dataset.k = k;
  td.tabIndex = -1;
  td.setAttribute("role", "gridcell");
  td.setAttribute("aria-label", cellWords(f, k, p, cellName(f, p)));
  if (l.cls === "mixed") {
    let at = 0;
    const stops = l.parts.map(([o, share]) => {
      const from = at;
      at += share * 100;
      return `var(--o-${outcomeName(OUTCOMES[o])}) ${from.toFixed(1)}% ${at.toFixed(1)}%`;
    });
    td.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  }
  if (l.share && l.share < 1) td.style.setProperty("--share", Math.max(12, Math.round(l.share * 100)) + "%");
  if (l.heat) {
    const x = Math.log(1 + l.heat) / Math.log(1 + hottest), y = Math.max(0, (x - 0.6) / 0.4);
    td.style.setProperty("--heat", Math.round(15 + 85 * y) + "%");
    if (y > 0.55) td.classList.add("hot");
  }
  return td;
}

function drawLegend() {
  const items = {
    agreement: [["agree", "✓", "as the table says"], ["disagree partly", "✗", "some are not"], ["disagree", "✗", "none is"], ["disagree", "~", "flaky"], ["quarantined", "⚑", "wrong, in quarantine"], ["notrun", "–", "not run"]],
    change: CHANGES.slice(1).map((c, i) => ["ch-" + c, CHANGE_GLYPHS[i + 1], c.replace("-", " ")]).concat([["same", "", "no change"]]),
    latency: [["heat", "", "the darker the slower"], ["notrun", "–", "no latency"]],
  };
  const signs = ["●", "·", "⊘", "✕", "○", "≈", "?"];
  items.outcome = OUTCOMES.map((o, i) => ["o-" + outcomeName(o), signs[i], outcomeName(o)]).concat([["mixed legend-mixed", "◐", "depends on the rest"], ["wrong", "", "framed: not as the table says"], ["notrun", "–", "not run"]]);
  items.change.push(...(S.by === "change" ? items.outcome.slice(0, 5).map(([c, g, w]) => [c, g, "before: " + w]) : []));
  items.expected = items.outcome.slice(0, 5).concat([["mixed legend-mixed", "◐", "depends on the rest"]]);
  $("legend").replaceChildren(...items[S.by].map(([cls, sign, words]) => {
    const s = h("span", { "aria-hidden": "true" }, sign);
    s.className = "cell sample " + cls;
    return h("li", {}, s, words);
  }));
}

// Keys within a picture: arrows, Home, End; Enter or space opens.
function moveFocus(td, key) {
  const tr = td.parentElement, cells = [...tr.querySelectorAll("td[data-p]")], rows = [...tr.parentElement.rows];
  const place = [...tr.children].filter((c) => c.classList.contains("cell")).indexOf(td);
  const inRow = (row) => row && [...row.children].filter((c) => c.classList.contains("cell"))[place];
  let to = null;
  const i = cells.indexOf(td), ri = rows.indexOf(tr);
  if (key === "ArrowRight") to = cells[i + 1];
  if (key === "ArrowLeft") to = cells[i - 1];
  if (key === "Home") to = cells[0];
  if (key === "End") to = cells[cells.length - 1];
  const step = key === "ArrowDown" ? 1 : key === "ArrowUp" ? -1 : 0;
  if (step) for (let r = ri + step; r >= 0 && r < rows.length && !to; r += step) { const c = inRow(rows[r]); if (c && c.dataset.p) to = c; }
  if (!to && (key === "ArrowRight" || key === "ArrowLeft")) { // on to the next picture
    const all = [...document.querySelectorAll("#matrix td[data-p]")];
    to = all[all.indexOf(td) + (key === "ArrowRight" ? 1 : -1)];
  }
  if (!to) return;
  td.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}
