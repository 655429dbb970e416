// The workers: what they do, and the buttons that drain and remove them.

import { ask, workerPath } from "./api.js";
import { $, bar, el, keep, mark, say } from "./dom.js";
import * as format from "./format.js";

// A bar is full at this load unless somebody has more: an idle fleet's bars stay short.
const LOAD_FULL = 16;
const QUEUE_FULL_S = 2;

// Of a removal: a long stream fits.
const DEADLINE_S = 180;

const rows = new Map();
let fleet = [];

export function show(workers) {
  fleet = workers;
  const mostLoad = Math.max(LOAD_FULL, ...workers.map((worker) => worker.inflight_requests));
  const mostQueue = Math.max(QUEUE_FULL_S, ...workers.map((worker) => worker.queued_prefill_s));
  const able = workers.filter((worker) => worker.healthy && !worker.draining).length;
  say($("workers-count"), workers.length ? `${able} of ${workers.length} take requests` : "");
  mark($("workers-none"), "hidden", workers.length ? "" : false);
  mark($("workers"), "hidden", workers.length ? false : "");
  keep($("workers").tBodies[0], rows, workers, (worker) => worker.id, make, (row, worker) => write(row, worker, mostLoad, mostQueue));
}

function cell(label, attributes, ...children) {
  return el("td", { role: "cell", "data-label": label, ...attributes }, ...children);
}

function make(worker) {
  const row = { name: el("span", { class: "name" }), more: el("dl"), status: el("span", { class: "state" }), why: el("span", { class: "why" }),
    load: bar(), loadText: el("span"), queue: bar(), queueText: el("span"), kv: bar(), kvText: el("span"), failures: el("span"), facts: new Map() };
  row.drain = el("button", { type: "button", onclick: () => drain(worker.id) });
  row.remove = el("button", { type: "button", class: "danger", "aria-label": `Remove ${worker.id}`, onclick: () => remove(worker.id) }, "Remove");
  row.element = el("tr", { role: "row", "data-worker": worker.id },
    el("th", { role: "rowheader", scope: "row" }, el("details", {}, el("summary", {}, row.name), row.more)),
    cell("Status", { class: "status-cell" }, row.status, row.why),
    cell("In flight", { class: "bars" }, row.load.element, row.loadText),
    cell("Queue", { class: "bars" }, row.queue.element, row.queueText),
    cell("KV cache", { class: "bars" }, row.kv.element, row.kvText),
    cell("Failures", { class: "n" }, row.failures),
    cell("", { class: "does" }, el("div", { class: "buttons" }, row.drain, row.remove)));
  return row;
}

function write(row, worker, mostLoad, mostQueue) {
  say(row.name, format.host(worker.id));
  const state = worker.leaves_in_s !== null ? "leaving" : worker.draining ? "draining" : worker.status;
  say(row.status, state);
  mark(row.status, "data-state", state);
  say(row.why, reason(worker));
  row.load.set(worker.inflight_requests / mostLoad);
  say(row.loadText, format.count(worker.inflight_requests));
  row.queue.set(worker.queued_prefill_s / mostQueue, worker.queued_prefill_s >= QUEUE_FULL_S ? "high" : "");
  say(row.queueText, format.seconds(worker.queued_prefill_s));
  row.kv.set(worker.kv_share);
  say(row.kvText, worker.kv_share === null ? "unknown" : `${Math.round(worker.kv_share * 100)} %`);
  const failures = Object.entries(worker.failures);
  say(row.failures, failures.length ? format.count(failures.reduce((sum, [, n]) => sum + n, 0)) : "0");
  say(row.drain, worker.draining ? "Take back" : "Drain");
  mark(row.drain, "aria-label", `${worker.draining ? "Take back" : "Drain"} ${worker.id}`);
  facts(row, worker, failures);
}

function reason(worker) {
  if (worker.leaves_in_s !== null) return `gone in ${format.duration(worker.leaves_in_s)} at the latest`;
  return worker.last_check && !worker.last_check.passed ? worker.last_check.why ?? "" : "";
}

function facts(row, worker, failures) {
  const all = {
    models: worker.models.slice(0, 8).join(", ") || "any",
    "added by": worker.added_by,
    engine: worker.engine ?? "unknown",
    "KV cache": worker.kv_capacity_tokens === null ? "size unknown" : `${format.compact(worker.kv_capacity_tokens)} tokens (from ${worker.kv_capacity_from})`,
    crowded: format.percent(worker.cache_crowding),
    prefill: `${worker.prefill_us_per_token.toFixed(1)} µs per token`,
    weight: format.number(worker.weight),
    waits: `${format.count(worker.queued_prompt_tokens)} prompt tokens`,
    "idle connections": format.count(worker.idle_connections),
    failures: failures.map(([kind, n]) => `${kind} ${n}`).join(", ") || "none",
  };
  keep(row.more, row.facts, Object.entries(all), ([name]) => name,
    ([name]) => { const value = el("dd"); return { value, element: el("div", {}, el("dt", {}, name), value) }; },
    (fact, [, text]) => say(fact.value, text));
}

// --- what the operator does ----------------------------------------------------------------------

// What was said of the action before is said no more, wherever it stood.
async function attempt(what, message) {
  say($("workers-message"), "");
  say($("add-message"), "");
  try {
    return await what();
  } catch (error) {
    say(message, error.message);
    return null;
  }
}

async function drain(id) {
  const draining = !fleet.find((worker) => worker.id === id)?.draining;
  const view = await attempt(() => ask("PATCH", workerPath(id), JSON.stringify({ draining })), $("workers-message"));
  if (view) show(fleet.map((worker) => (worker.id === id ? { ...worker, ...view } : worker)));
}

async function remove(id) {
  const flying = fleet.find((worker) => worker.id === id)?.inflight_requests ?? 0;
  const text = flying
    ? `It has ${flying} in flight. It gets no new requests and goes when those have ended, after ${DEADLINE_S / 60} minutes at the latest.`
    : "It has no requests in flight and goes at once. What is known of its cache is forgotten.";
  if (!(await confirmed(`Remove ${format.host(id)}?`, text))) return;
  const answer = await attempt(() => ask("DELETE", `${workerPath(id)}?deadline_s=${DEADLINE_S}`), $("workers-message"));
  if (answer?.status === "removed") show(fleet.filter((worker) => worker.id !== id));
  $("workers-heading").focus();
}

// The safe answer has the focus; Escape is the same.
function confirmed(title, text) {
  const dialog = $("confirm");
  say($("confirm-title"), title);
  say($("confirm-text"), text);
  return new Promise((resolve) => {
    let answer = false;
    $("confirm-yes").onclick = () => { answer = true; dialog.close(); };
    $("confirm-no").onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    $("confirm-no").focus();
  });
}

export function start() {
  $("add-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button");
    const url = $("add-url").value.trim();
    const model = $("add-model").value.trim();
    button.disabled = true;
    const view = await attempt(() => ask("POST", "workers", JSON.stringify({ url, models: model ? [model] : [] })), $("add-message"));
    button.disabled = false;
    if (view) {
      event.target.reset();
      if (!fleet.some((worker) => worker.id === view.id)) show([...fleet, { ...view, kv_share: null }]);
    }
  });
}
