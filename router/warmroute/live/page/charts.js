// Small line charts, as wide as their place. Lines differ in colour and in dashes; the same values are below as a
// table.

import { el, mark, say } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const SIDE = { left: 58, right: 12, top: 10, bottom: 24 };
const NARROW = 480; // every other minute is named
const TABLE_EVERY = 6; // steps of five seconds: a row each half minute

function svg(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// 1, 2 or 5 times a power of ten, so that some four steps reach `top`.
function stepTo(top) {
  const rough = top / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= rough - 1e-12);
}

// lines: [{name, values, style}]; `format` writes a value, `top` fixes the axis.
export class Chart {
  constructor(figure, { label, format, top }) {
    Object.assign(this, { label, format, top });
    this.picture = svg("svg", { role: "img", height: HEIGHT, focusable: "false" });
    this.legend = el("div", { class: "keys" });
    this.body = el("tbody");
    this.head = el("tr");
    const table = el("table", {}, el("caption", { class: "unseen" }, `${label}, as numbers`), el("thead", {}, this.head), this.body);
    this.details = el("details", {}, el("summary", {}, "As numbers"), table);
    figure.append(this.picture, el("figcaption", {}, this.legend, this.details));
    this.details.addEventListener("toggle", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  show(lines, stepSeconds) {
    this.lines = lines;
    this.stepSeconds = stepSeconds;
    this.draw();
  }

  draw() {
    if (!this.lines) return;
    const width = Math.max(220, this.picture.parentElement.clientWidth);
    const count = this.lines[0].values.length;
    const values = this.lines.flatMap((line) => line.values).filter((value) => value !== null);
    const step = this.top ? this.top / 4 : stepTo(Math.max(...values, 0.004));
    const top = this.top || Math.ceil(Math.max(...values, 0.004) / step - 1e-9) * step;
    const x = (i) => SIDE.left + (i * (width - SIDE.left - SIDE.right)) / Math.max(1, count - 1);
    const y = (value) => HEIGHT - SIDE.bottom - (Math.min(value, top) / top) * (HEIGHT - SIDE.top - SIDE.bottom);
    const parts = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      parts.push(svg("line", { class: value ? "grid" : "axis", x1: SIDE.left, x2: width - SIDE.right, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { class: "tick", x: SIDE.left - 8, y: y(value) + 4, "text-anchor": "end" }, this.format(value)));
    }
    const minutes = Math.round((count * this.stepSeconds) / 60);
    for (let ago = minutes; ago >= 0; ago -= 1) {
      if (width < NARROW && ago && (minutes - ago) % 2) continue;
      const at = x((count - 1) * (1 - ago / minutes));
      const anchor = ago === minutes ? "start" : ago ? "middle" : "end";
      parts.push(svg("text", { class: "tick", x: at, y: HEIGHT - 6, "text-anchor": anchor }, ago ? `−${ago} min` : "now"));
    }
    for (const line of this.lines) {
      parts.push(svg("path", { class: `line ${line.style}`, d: path(line.values, x, y) }));
    }
    this.picture.setAttribute("width", width);
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.picture.replaceChildren(...parts);
    this.describe();
  }

  describe() {
    const latest = this.lines.map((line) => [line, line.values.at(-1) ?? null]);
    const words = latest.map(([line, value]) => `${line.name} ${this.format(value)}`).join(", ");
    mark(this.picture, "aria-label", `${this.label}. Latest: ${words}.`);
    if (this.legend.childElementCount !== this.lines.length) {
      this.legend.replaceChildren(
        ...this.lines.map((line) => {
          const sample = svg("svg", { width: 26, height: 8, "aria-hidden": "true" });
          sample.append(svg("path", { class: `line ${line.style}`, d: "M1 4H25" }));
          return el("span", {}, sample, `${line.name} `, el("b"));
        }),
      );
      this.head.replaceChildren(el("th", { scope: "col" }, "Time"), ...this.lines.map((line) => el("th", { scope: "col", class: "n" }, line.name)));
    }
    latest.forEach(([, value], i) => say(this.legend.children[i].querySelector("b"), this.format(value)));
    if (this.details.open) this.tabulate();
  }

  tabulate() {
    const rows = [];
    for (let i = this.lines[0].values.length - 1; i >= 0; i -= TABLE_EVERY) {
      const ago = (this.lines[0].values.length - 1 - i) * this.stepSeconds;
      rows.push(
        el("tr", {}, el("th", { scope: "row" }, ago ? `−${ago} s` : "now"),
          ...this.lines.map((line) => el("td", { class: "n" }, this.format(line.values[i])))),
      );
    }
    this.body.replaceChildren(...rows);
  }
}

// A value between two gaps is a dot.
function path(values, x, y) {
  let d = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const begins = i === 0 || values[i - 1] === null;
    d += `${begins ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    if (begins && (values[i + 1] ?? null) === null) d += "h0.1";
  });
  return d;
}
