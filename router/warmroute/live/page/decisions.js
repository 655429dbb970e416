// The stream of decisions: the newest on top, each opened for its prices, its end written in when it comes.

import { $, el, mark, say } from "./dom.js";
import * as format from "./format.js";
import * as prices from "./prices.js";

const SHOWN_MAX = 40;
const HELD_MAX = 200; // while paused; further ones push the oldest out
const NEW_PER_S = 4; // a row then stays for ten seconds: time to read it, and mostly to see its end
const NEW_AT_ONCE = 12;

const OUTCOMES = {
  ok: "done", client_error: "refused by the worker", client_gone: "client left", worker_error: "worker failed",
  timeout: "timed out", cancelled: "cancelled", refused: "no worker",
};

export class Decisions {
  constructor() {
    this.list = $("decisions");
    this.rows = new Map();
    this.held = [];
    this.left = 0;
    this.paused = false;
    this.allowed = NEW_AT_ONCE;
    this.allowedAt = performance.now();
    $("pause").addEventListener("click", () => this.pause(!this.paused));
    prices.legend($("legend"));
  }

  pause(paused) {
    this.paused = paused;
    mark($("pause"), "aria-pressed", String(paused));
    say($("pause"), paused ? "Go on" : "Pause");
    if (!paused) {
      const held = this.held;
      this.held = [];
      this.show(held);
    }
    this.note();
  }

  take({ skipped, decisions }) {
    this.left += skipped;
    if (this.paused) this.held = [...this.held, ...decisions].slice(-HELD_MAX);
    else this.show(decisions);
    this.note();
  }

  note() {
    const words = [];
    if (this.paused) words.push(`paused, ${new Set(this.held.map((one) => one.number)).size} wait`);
    if (this.left) words.push(`${format.count(this.left)} more are not shown`);
    say($("decisions-note"), words.join("; "));
  }

  show(decisions) {
    for (const decision of decisions) {
      let row = this.rows.get(decision.number);
      if (!row && this.gone(decision)) continue;
      if (!row) {
        this.rows.set(decision.number, (row = make()));
        this.list.prepend(row.element);
      }
      row.decision = { ...row.decision, ...decision };
      write(row);
    }
    for (const [number, row] of this.rows) {
      if (this.rows.size <= SHOWN_MAX) break;
      row.element.remove();
      this.rows.delete(number);
    }
    mark($("decisions-none"), "hidden", this.rows.size ? "" : false);
    mark(this.list, "hidden", this.rows.size ? false : "");
  }

  // The end of a request whose beginning is not shown, or one more than can be read.
  gone(decision) {
    if (decision.outcome && !decision.costs) return true;
    const now = performance.now();
    this.allowed = Math.min(NEW_AT_ONCE, this.allowed + ((now - this.allowedAt) / 1000) * NEW_PER_S);
    this.allowedAt = now;
    if (this.allowed < 1) {
      this.left += 1;
      return true;
    }
    this.allowed -= 1;
    return false;
  }
}

function make() {
  const row = {};
  for (const [name, tag] of [["when", "time"], ["worker", "b"], ["reason", "span"], ["price", "span"], ["model", "span"],
    ["session", "span"], ["hits", "span"], ["end", "span"]]) row[name] = el(tag, { class: name });
  row.bar = el("span", { class: "mini" });
  row.predicted = el("i", { class: "predicted" });
  row.actual = el("i", { class: "actual" });
  row.gauge = el("span", { class: "gauge", "aria-hidden": "true" }, row.predicted, row.actual);
  row.inside = el("div", { class: "inside" });
  const summary = el("summary", {},
    el("span", { class: "line1" }, row.when, row.worker, row.reason, row.price, row.bar),
    el("span", { class: "line2" }, row.gauge, row.hits, row.end),
    el("span", { class: "line3" }, row.model, row.session));
  row.details = el("details", {}, summary, row.inside);
  row.details.addEventListener("toggle", () => open(row));
  row.element = el("li", {}, row.details);
  return row;
}

function write(row) {
  const one = row.decision;
  say(row.when, format.clock(one.at_s));
  say(row.worker, one.worker ? `→ ${format.host(one.worker)}` : "no worker");
  say(row.reason, one.reason || "–");
  mark(row.reason, "data-reason", one.reason);
  say(row.model, one.model || "no model");
  say(row.session, one.session ? `session ${one.session}` : "");
  const chosen = one.costs.find((cost) => cost.worker === one.worker);
  say(row.price, chosen ? prices.price(chosen) : "");
  if (chosen && !row.bar.childElementCount) row.bar.replaceChildren(prices.stack(chosen, prices.scaleOf(one.costs)));
  const prompt = one.prompt_tokens;
  const told = one.cached_tokens ?? null;
  const actual = told !== null ? `, actual ${format.count(told)}` : one.outcome === "ok" ? ", actual not reported" : "";
  say(row.hits, `predicted ${format.count(one.predicted_hit_tokens)}${actual} of ${format.count(prompt)} tokens`);
  row.predicted.style.width = `${share(one.predicted_hit_tokens, prompt)}%`;
  row.actual.style.width = `${share(told, prompt)}%`;
  const end = [];
  if (one.outcome) end.push(OUTCOMES[one.outcome] ?? one.outcome);
  else end.push("under way");
  if (one.attempt) end.push(`try ${one.attempt + 1}`);
  if (one.ttft_s) end.push(`TTFT ${format.seconds(one.ttft_s)}`);
  if (one.duration_s !== undefined) end.push(`took ${format.seconds(one.duration_s)}`);
  say(row.end, end.join(", "));
  mark(row.element, "data-outcome", one.outcome ?? "none");
  if (row.details.open) open(row);
}

const share = (part, whole) => (whole > 0 ? Math.min(100, ((part ?? 0) / whole) * 100).toFixed(1) : 0);

function open(row) {
  const one = row.decision;
  const facts = el("p", { class: "facts" }, `request ${one.request_id}${one.status ? `, status ${one.status}` : ""}`);
  row.inside.replaceChildren(facts, one.costs.length
    ? prices.table(one.costs, one.worker, "Prices of the workers before the request was booked")
    : el("p", { class: "none" }, "No worker had a price."));
}
