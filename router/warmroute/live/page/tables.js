// What stands beside the decisions: shadow policies, hot prefixes, sessions.

import { $, el, keep, mark, say } from "./dom.js";
import * as format from "./format.js";

const SHOWN = 12;

// A table body with one row per item: `columns` are functions from item to text, the first one a row's header.
class Rows {
  constructor(table, columns, numbers) {
    Object.assign(this, { body: table.tBodies[0], columns, numbers, rows: new Map() });
  }

  show(items, keyOf) {
    keep(this.body, this.rows, items, keyOf,
      () => {
        const cells = this.columns.map((_, i) =>
          el(i ? "td" : "th", { scope: i ? null : "row", class: this.numbers.includes(i) ? "n" : "cut" }));
        return { cells, element: el("tr", {}, ...cells) };
      },
      (row, item) => this.columns.forEach((column, i) => {
        const text = column(item);
        say(row.cells[i], text);
        if (!this.numbers.includes(i)) mark(row.cells[i], "title", text);
      }));
  }
}

const shadows = new Rows($("shadows"), [
  (one) => one.policy, (one) => format.compact(one.decisions), (one) => (one.live ? "–" : format.percent(one.agreed_share)),
  (one) => `${format.percent(one.predicted_hit_rate)}${one.failures ? `, ${one.failures} failed` : ""}`,
  (one) => balance(Object.values(one.inflight)),
], [1, 2, 3, 4]);

// The most over the mean: 1 is even, the number of workers is all on one. Unknown where nothing is in flight.
function balance(loads) {
  const sum = loads.reduce((before, load) => before + load, 0);
  return format.ratio(sum ? (Math.max(...loads) * loads.length) / sum : null);
}

const prefixes = new Rows($("prefixes"), [
  (one) => `${one.indent}${one.prefix.slice(0, 10)} ${one.model}`, (one) => format.compact(one.requests),
  (one) => format.compact(one.saved_tokens), (one) => format.percent(one.share),
], [1, 2, 3]);

const sessions = new Rows($("sessions"), [
  (one) => one.session, (one) => format.host(one.worker), (one) => format.count(one.turns), (one) => format.count(one.moves),
  (one) => format.compact(one.footprint_tokens),
], [2, 3, 4]);

export function show(snapshot) {
  mark($("shadows-panel"), "hidden", snapshot.shadows.length ? false : "");
  const inflight = Object.fromEntries(snapshot.workers.map((worker) => [worker.id, worker.inflight_requests]));
  const live = { policy: `${snapshot.policy} (live)`, live: true, inflight, ...snapshot.live };
  shadows.show([live, ...snapshot.shadows], (one) => one.policy);

  const branches = tree(snapshot.prefixes).slice(0, SHOWN);
  prefixes.show(branches, (one) => one.prefix);
  mark($("prefixes"), "hidden", branches.length ? false : "");
  mark($("prefixes-none"), "hidden", branches.length ? "" : false);

  const { known, turns_stayed: stayed, turns_moved: moved, recent } = snapshot.sessions;
  const turns = stayed + moved;
  say($("sessions-note"), known ? `${format.compact(known)} known${turns ? `, ${format.percent(stayed / turns)} of turns stayed` : ""}` : "");
  sessions.show(recent.slice(0, SHOWN), (_, place) => place); // names are cut: two may look the same
  mark($("sessions"), "hidden", recent.length ? false : "");
  mark($("sessions-none"), "hidden", recent.length ? "" : false);
}

// Branches below the one that they grow from, each level further in.
function tree(list) {
  const known = new Set(list.map((one) => one.prefix));
  const below = new Map();
  for (const one of list) {
    const parent = known.has(one.parent) && one.parent !== one.prefix ? one.parent : null;
    below.set(parent, [...(below.get(parent) ?? []), one]);
  }
  const rows = [];
  const walk = (parent, depth) => {
    for (const one of below.get(parent) ?? []) {
      rows.push({ ...one, indent: depth ? `${"\u00a0\u00a0".repeat(depth - 1)}└ ` : "" });
      if (depth < list.length) walk(one.prefix, depth + 1);
    }
  };
  walk(null, 0);
  return rows;
}
