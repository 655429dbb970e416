// Puts the page together: the feed's snapshots and decisions to the parts that show them; keys; how fresh it is.

import { key } from "./api.js";
import { Chart } from "./charts.js";
import { Decisions } from "./decisions.js";
import { $, el, mark, say } from "./dom.js";
import * as dryrun from "./dryrun.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import * as tables from "./tables.js";
import * as workers from "./workers.js";

// A snapshot comes every second; after this the page says that it is old.
const STALE_MS = 4000;

const TOTALS = [
  // name, unit, value, what stands below it, whether it is bad
  ["Requests", "per second", (t) => format.rate(t.requests_per_s)],
  ["Errors", "per second", (t) => format.rate(t.errors_per_s), null, (t) => t.errors_per_s > 0],
  ["In flight", "now", (t) => format.count(t.in_flight), (t) => `${format.count(t.connections)} connections`],
  ["Prompt tokens", "per second", (t) => format.compact(t.prompt_tokens_per_s)],
  ["Hit rate", "actual", (t) => format.percent(t.actual_hit_rate), (t) => `predicted ${format.percent(t.predicted_hit_rate)}`],
  ["Reusable", "at the best holder", (t) => format.percent(t.reusable_rate), () => "engines may hold more"],
  ["TTFT", "p50", (t) => format.seconds(t.ttft_p50_s), (t) => `p99 ${format.seconds(t.ttft_p99_s)}`],
  ["Prefill saved", "seconds per second", (t) => format.rate(t.prefill_saved_s_per_s)],
];

const tiles = TOTALS.map(([name, unit]) => {
  const tile = { value: el("dd"), below: el("dd", { class: "below" }) };
  $("totals").append(el("div", {}, el("dt", {}, name, " ", el("small", {}, unit)), tile.value, tile.below));
  return tile;
});

const hits = new Chart($("hit-chart"), { label: "Hit rate over the last five minutes", format: (v) => (v === null ? "–" : `${Math.round(v * 100)} %`), top: 1 });
const ttft = new Chart($("ttft-chart"), { label: "Time to first token over the last five minutes", format: format.seconds });
const decisions = new Decisions();

let heardAt = 0;
let state = "connecting";

function tell(name, text) {
  state = name;
  mark($("status"), "data-state", name);
  say($("status"), text);
  mark(document.body, "data-stale", name === "live" ? false : "");
}

function show(snapshot) {
  heardAt = performance.now();
  tell(snapshot.stopping ? "lost" : "live", snapshot.stopping ? "The router is stopping" : "Live");
  mark($("content"), "hidden", false);
  mark($("key"), "hidden", "");
  mark($("forget-key"), "hidden", key.get() ? false : "");
  say($("policy"), snapshot.policy);
  say($("version"), snapshot.version);
  say($("uptime"), format.duration(snapshot.uptime_s));
  say($("models"), snapshot.models.length > 2 ? `${snapshot.models.length}` : snapshot.models.join(", ") || "any");
  mark($("models"), "title", snapshot.models.join(", "));
  discovery(snapshot.discovery);
  TOTALS.forEach(([, , text, below, isBad], i) => {
    say(tiles[i].value, text(snapshot.totals));
    if (below) say(tiles[i].below, below(snapshot.totals));
    mark(tiles[i].value, "data-level", isBad?.(snapshot.totals) ? "bad" : null);
  });
  const past = snapshot.history;
  hits.show([{ name: "actual", values: past.actual_hit_rate, style: "actual" }, { name: "predicted", values: past.predicted_hit_rate, style: "predicted" }], past.step_s);
  ttft.show([{ name: "p50", values: past.ttft_p50_s, style: "p50" }, { name: "p99", values: past.ttft_p99_s, style: "p99" }], past.step_s);
  workers.show(snapshot.workers);
  tables.show(snapshot);
  dryrun.learn(snapshot);
}

function discovery(found) {
  mark($("discovery-fact"), "hidden", found ? false : "");
  if (!found) return;
  const change = found.last_change_ago_s === null ? "" : `, changed ${format.duration(found.last_change_ago_s)} ago`;
  say($("discovery"), found.error ? `${found.kind}: ${found.error}` : `${found.kind} ${found.target}${change}`);
  mark($("discovery"), "data-level", found.error ? "bad" : null);
}

// --- the key ---------------------------------------------------------------------------------------

const feed = new Feed({ snapshot: show, decisions: (data) => decisions.take(data), state: tell, refused: askForKey });

function askForKey() {
  const had = key.get() !== null;
  key.forget();
  tell("key", had ? "The key was refused" : "A key is needed");
  say($("key-error"), had ? "The router does not accept this key. An admin key is needed; a client's key opens nothing here." : "");
  mark($("content"), "hidden", "");
  mark($("key"), "hidden", false);
  mark($("forget-key"), "hidden", "");
  $("key-input").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("key-input").value.trim();
  if (/[^\x21-\x7e]/.test(typed)) {
    say($("key-error"), "A key has no spaces and only ASCII characters.");
    return;
  }
  key.set(typed);
  $("key-input").value = "";
  tell("connecting", "Connecting …");
  feed.start();
});

$("forget-key").addEventListener("click", () => {
  key.forget();
  feed.start();
});

// --- freshness -------------------------------------------------------------------------------------

setInterval(() => {
  const ago = performance.now() - heardAt;
  if (state === "live" && ago > STALE_MS) tell("stale", "Stale: the router has not been heard for some seconds");
}, 1000);

workers.start();
dryrun.start();
feed.start();
