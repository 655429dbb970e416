// Where would this request go? POST /route, and the prices of all workers.

import { ask } from "./api.js";
import { $, el, mark, say } from "./dom.js";
import * as format from "./format.js";
import * as prices from "./prices.js";

const EXAMPLE = { model: "m", messages: [{ role: "system", content: "You are a helpful assistant." }, { role: "user", content: "Hello!" }] };

// The request header that names a session; null: the router reads none.
let sessionHeader = null;

export function start() {
  $("dry-body").value = JSON.stringify(EXAMPLE, null, 2);
  $("dry-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    say($("dry-error"), "");
    say($("dry-answer"), "");
    $("dry-result").replaceChildren();
    const session = $("dry-session").value.trim();
    const path = `route?path=${encodeURIComponent($("dry-path").value)}`;
    try {
      show(await ask("POST", path, $("dry-body").value, session && sessionHeader ? { [sessionHeader]: session } : {}));
    } catch (error) {
      say($("dry-error"), error.message);
    }
  });
}

// What the snapshot says: the session's header, and the first model, for an example that works as it stands.
export function learn({ session_header: header, models }) {
  sessionHeader = header;
  mark($("dry-session"), "disabled", header ? false : "");
  mark($("dry-session"), "placeholder", header ? "none" : "no header names sessions");
  const body = $("dry-body");
  if (models.length && body.value === JSON.stringify(EXAMPLE, null, 2) && models[0] !== EXAMPLE.model) {
    EXAMPLE.model = models[0];
    body.value = JSON.stringify(EXAMPLE, null, 2);
  }
}

function show(run) {
  const text = [`: ${run.reason}. Predicted hit ${format.count(run.predicted_hit_tokens)} of ${format.count(run.prompt_tokens)} tokens`,
    run.session ? `, session ${run.session}` : "", "."].join("");
  $("dry-answer").replaceChildren("To ", el("b", {}, format.host(run.worker)), text);
  $("dry-result").replaceChildren(prices.table(run.costs, run.worker, "Price of every worker for this request"));
}
