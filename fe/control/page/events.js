/* What happened, newest first, of everything or of one deployment.

   Owns: the list, the choice of the deployment, the number of the newest event that is shown. Never: fetching;
   app.js asks where to go on (`query`) and hands in what came. */

import { attribute, clone, shown, text } from "./dom.js";
import { clock, figure, iso } from "./format.js";

const KEPT = 300;
const GRAVE = new Set(["eject", "crash", "unready"]);

const log = document.getElementById("log");
const frame = document.getElementById("log-frame");
const none = document.getElementById("no-events");
const choice = document.getElementById("events-of");

export class Events {
  /** `onChoice()` is called when another deployment's events are asked for. */
  constructor(onChoice) {
    this.last = 0;
    choice.addEventListener("change", () => {
      this.reset();
      onChoice();
    });
  }

  /** Begins anew: another deployment, or another controller, which counts from the start. */
  reset() {
    this.last = 0;
    log.replaceChildren();
  }

  query() {
    const query = new URLSearchParams({ after: this.last, limit: 200 });
    if (choice.value) query.set("deployment", choice.value);
    return query.toString();
  }

  /** Takes the answer to `query`; one to another question than is asked by now is of no use. */
  update({ last, events }, query) {
    if (query !== this.query()) return;
    if (last < this.last) this.reset();
    for (const event of events) if (event.id > this.last) log.prepend(buildEvent(event));
    this.last = last;
    while (log.childElementCount > KEPT) log.lastElementChild.remove();
    shown(none, log.childElementCount === 0);
    shown(frame, log.childElementCount > 0);
  }

  /** The deployments to choose from; one that is gone stays as long as it is chosen. */
  offer(names) {
    const offered = [...choice.options].slice(1).map(({ value }) => value);
    const wanted = names.includes(choice.value) || !choice.value ? names : [...names, choice.value];
    if (offered.length === wanted.length && offered.every((name, index) => name === wanted[index])) return;
    const chosen = choice.value;
    const options = wanted.map((name) => new Option(name, name));
    choice.replaceChildren(choice.options[0], ...options);
    choice.value = chosen;
  }
}

function buildEvent(event) {
  const view = clone("event-template");
  text(view.time, clock(event.time));
  attribute(view.time, "datetime", iso(event.time));
  text(view.kind, event.kind);
  attribute(view.kind, "data-level", GRAVE.has(event.kind) ? "critical" : null);
  attribute(view.root, "data-kind", event.kind);
  text(view.change, describeChange(event));
  text(view.of, [event.deployment, event.replica].filter((one) => one !== null).join(" · "));
  text(view.reason, event.reason);
  const figures = Object.entries(event.figures ?? {}).map(([name, value]) => `${name} ${figure(value)}`);
  text(view.figures, figures.join("  "));
  for (const part of [view.change, view.of, view.reason, view.figures]) shown(part, part.textContent !== "");
  return view.root;
}

function describeChange({ from, to }) {
  if (from === null && to === null) return "";
  return `${from ?? "?"} → ${to ?? "?"}`;
}
