// SPDX-License-Identifier: Apache-2.0
// Small things for building elements. Whatever comes from the report is set as text, never as markup.

const $ = (id) => document.getElementById(id);

// h makes an element: h("td.cell", {title: "x"}, "text", child). Attributes that are null or false are left out;
// functions become listeners.
function h(what, attrs, ...children) {
  const [tag, ...classes] = what.split(".");
  const el = document.createElement(tag);
  if (classes.length) el.className = classes.join(" ");
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (typeof v === "function") el.addEventListener(k, v);
    else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

function svg(tag, attrs, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attrs || {})) el.setAttribute(k, v);
  el.append(...children);
  return el;
}

const number = (n) => n.toLocaleString("en");
const plural = (n, noun) => number(n) + " " + noun + (n === 1 ? "" : "s");

// micros writes microseconds as people say them.
function micros(us) {
  if (!us) return "–";
  if (us < 1000) return us + " µs";
  if (us < 1e6) return (us / 1000).toPrecision(3) + " ms";
  return (us / 1e6).toPrecision(3) + " s";
}

function say(text) { $("live").textContent = text; }

function option(value, label, selected) {
  const o = h("option", { value }, label);
  o.selected = selected;
  return o;
}
