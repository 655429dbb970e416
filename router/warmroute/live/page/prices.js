// Why a worker was chosen: its price, in parts. The parts of the default policy are seconds; other rules have
// their own, which are written as they are and not stacked.

import { el } from "./dom.js";
import * as format from "./format.js";

const PARTS = {
  queue: "prefills that wait there",
  miss: "computing what it does not hold",
  rent: "room in a crowded cache",
  memory: "cache held by requests in flight",
  decode: "slower decoding beside others",
  rtt: "the way there",
};

const names = Object.keys(PARTS);
const isSeconds = (shares) => Object.keys(shares).some((name) => name in PARTS);

export const price = (cost) => (isSeconds(cost.shares_s) ? format.seconds(cost.total_s) : format.number(cost.total_s));

export function legend(list) {
  list.replaceChildren(
    ...names.map((name) => el("li", {}, el("i", { class: `part part-${name}`, "aria-hidden": "true" }), `${name}: ${PARTS[name]}`)),
  );
}

// The parts of one price beside each other; `scale` is the price that fills the bar.
export function stack(cost, scale) {
  const element = el("span", { class: "stack", "aria-hidden": "true" });
  for (const name of names) {
    const value = cost.shares_s[name];
    if (!(value > 0)) continue;
    const part = el("i", { class: `part part-${name}`, title: `${name} ${format.seconds(value)}` });
    part.style.width = `${Math.min(100, (value / scale) * 100).toFixed(2)}%`;
    element.append(part);
  }
  return element;
}

const parts = (cost) => {
  const inSeconds = isSeconds(cost.shares_s);
  return Object.entries(cost.shares_s)
    .filter(([, value]) => value !== 0)
    .map(([name, value]) => `${name} ${inSeconds && name in PARTS ? format.seconds(value) : format.number(value)}`)
    .join(", ");
};

export const scaleOf = (costs) => Math.max(1e-6, ...costs.filter((cost) => cost.eligible).map((cost) => cost.total_s ?? 0));

// All prices of one decision as a table, the chosen worker's marked by a word.
export function table(costs, chosen, caption) {
  const scale = scaleOf(costs);
  const rows = costs.map((cost) =>
    el("tr", { class: cost.worker === chosen ? "chosen" : "" },
      el("th", { scope: "row" }, format.host(cost.worker), cost.worker === chosen ? el("span", { class: "word" }, "chosen") : null),
      el("td", { class: "n" }, cost.eligible ? price(cost) : "not eligible"),
      el("td", { class: "n" }, format.count(cost.predicted_hit_tokens)),
      el("td", { class: "wide" }, cost.eligible && isSeconds(cost.shares_s) ? stack(cost, scale) : null, el("span", { class: "parts" }, parts(cost)))));
  const head = el("tr", {}, el("th", { scope: "col" }, "Worker"), el("th", { scope: "col", class: "n" }, "Price"),
    el("th", { scope: "col", class: "n" }, "Hit tokens"), el("th", { scope: "col" }, "Parts"));
  return el("table", { class: "prices" }, el("caption", { class: "unseen" }, caption), el("thead", {}, head), el("tbody", {}, ...rows));
}
