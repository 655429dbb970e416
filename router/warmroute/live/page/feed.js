// The stream of events, read by fetch because an EventSource carries no key. It comes back by itself.

import { refusal, request } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// A snapshot comes every second; a router that is only slow is not given up.
const SILENCE_MS = 15_000;

// handlers: snapshot(data), decisions(data), state(name, text), refused() when a key is needed or wrong.
export class Feed {
  constructor(handlers) {
    this.handlers = handlers;
    this.run = 0;
  }

  // Begins anew, with the key as it is now.
  start() {
    this.stop();
    this.follow(this.run);
  }

  stop() {
    this.run += 1;
    this.abort?.abort();
    clearTimeout(this.timer);
    this.wake?.();
  }

  async follow(run) {
    let wait = FIRST_WAIT_MS;
    while (run === this.run) {
      let why = "the router does not answer";
      try {
        this.abort = new AbortController();
        this.listen();
        const answer = await request("live/events", { signal: this.abort.signal });
        if (answer.status === 401) {
          this.abort.abort();
          clearTimeout(this.silence);
          this.handlers.refused();
          return;
        }
        if (!answer.ok) {
          why = (await refusal(answer)).message;
        } else {
          await this.read(answer.body, () => {
            wait = FIRST_WAIT_MS;
          });
          why = "the router ended the connection";
        }
      } catch {
        // not there, or cut: the reason stands
      }
      clearTimeout(this.silence);
      if (run !== this.run) return;
      const pause = wait * (0.75 + Math.random() / 2); // pages that were cut together do not come back together
      this.handlers.state("lost", `Not connected: ${why}. Trying again.`);
      await new Promise((resolve) => {
        this.wake = resolve;
        this.timer = setTimeout(resolve, pause);
      });
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    }
  }

  // The deadline for the next byte.
  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.abort.abort(), SILENCE_MS);
  }

  async read(body, came) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.listen();
      const events = (held + value).split("\n\n");
      held = events.pop();
      for (const event of events) {
        came();
        this.dispatch(event);
      }
    }
  }

  dispatch(event) {
    let name = "";
    const data = [];
    for (const line of event.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
    if (name === "snapshot") this.handlers.snapshot(JSON.parse(data.join("\n")));
    else if (name === "decisions") this.handlers.decisions(JSON.parse(data.join("\n")));
  }
}
