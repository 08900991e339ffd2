/* What may be changed from the page: drain and undrain a replica, scale a deployment; each after a confirmation.

   Owns: the dialog and the POST. Never: whether the buttons are there (the status says so) or what is allowed: fe
   decides, and its refusal is shown in its own words. */

import { shown, slots, text } from "./dom.js";
import { plural } from "./format.js";

const dialog = document.getElementById("confirm");
const form = dialog.querySelector("form");
const view = slots(dialog);
const title = document.getElementById("confirm-title");
let act = null; // what the dialog's button does; a promise that fails with the refusal

export function askDrain(deployment, replica, drain) {
  const what = drain
    ? `${replica} of ${deployment} gets no new request; those it has are finished.`
    : `${replica} of ${deployment} gets requests again.`;
  const verb = drain ? "Drain" : "Undrain";
  ask(`${verb} a replica`, what, verb, () => post(deployment, drain ? "drain" : "undrain", { replica }));
}

export function askScale(deployment, { wanted, scaling }) {
  const bounds = scaling ? ` Between ${scaling.min} and ${scaling.max}.` : "";
  const what = `${deployment} now has ${plural(wanted, "replica")}.${bounds}`;
  ask(`Scale a deployment`, what, "Scale", () => post(deployment, "scale", { count: view.count.valueAsNumber }));
  shown(view.countLabel, true);
  view.count.disabled = false;
  view.count.min = scaling ? scaling.min : 0;
  view.count.max = scaling ? scaling.max : "";
  view.count.value = wanted;
  view.count.select();
}

function ask(heading, what, verb, action) {
  text(title, heading);
  text(view.text, what);
  text(view.go, verb);
  text(view.refusal, "");
  shown(view.countLabel, false);
  view.count.disabled = true; // a hidden field must not be asked for
  act = action;
  dialog.showModal();
}

/** Sends a change. Throws an Error with fe's own message when it is refused. */
async function post(deployment, verb, body) {
  const name = deployment.split("/").map(encodeURIComponent).join("/");
  const answer = await fetch(`api/deployments/${name}/${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.ok) return;
  const said = await answer.json().catch(() => null);
  throw new Error(said?.error?.message ?? `fe answered ${answer.status}`);
}

async function onSubmit(event) {
  event.preventDefault();
  view.go.disabled = true;
  try {
    await act();
    dialog.close();
  } catch (error) {
    text(view.refusal, error.name === "TimeoutError" ? "no answer within 10 s" : error.message);
  } finally {
    view.go.disabled = false;
  }
}

form.addEventListener("submit", onSubmit);
view.cancel.addEventListener("click", () => dialog.close());
