/* Endpoints and their deployments: a row each, and behind the row what is inside.

   Owns: the rows, which of them are shown (filter) and open. What is inside a row is built when it is opened for
   the first time and updated while it is open, so that a hundred closed rows cost little. Never: fetching; app.js
   hands statuses in. Read chart.js and replicas.js next. */

import { askScale } from "./actions.js";
import { Chart } from "./chart.js";
import { Keyed, attribute, clone, property, shown, slots, text } from "./dom.js";
import { ago, clock, count, latency, percent, plural, rate } from "./format.js";
import { Replicas, countStates } from "./replicas.js";

const FEW = 3; // so many deployments start open

const search = document.getElementById("search");
const onlyTroubled = document.getElementById("only-troubled");
const none = document.getElementById("no-deployments");

export class Deployments {
  constructor() {
    this.rows = new Map(); // by full name
    this.endpoints = new Keyed(
      document.getElementById("endpoints"),
      () => this._buildEndpoint(),
      (view, endpoint) => this._fillEndpoint(view, endpoint),
    );
    search.addEventListener("input", () => this._filter());
    onlyTroubled.addEventListener("change", () => this._filter());
    document.getElementById("open-all").addEventListener("click", () => this._openAll(true));
    document.getElementById("close-all").addEventListener("click", () => this._openAll(false));
    window.addEventListener("hashchange", () => this.reveal(location.hash));
  }

  /** Shows `status`; `troubles` as found by trouble.js. */
  update(status, troubles) {
    const first = !this.status;
    this.status = status;
    this.troubles = Map.groupBy(troubles, ({ where }) => where);
    this.total = status.endpoints.reduce((sum, { deployments }) => sum + deployments.length, 0);
    this.rows = new Map();
    this.endpoints.sync(status.endpoints, ({ name }) => name);
    this._filter();
    if (first) this.reveal(location.hash);
  }

  /** Follows a link to a deployment: its row is shown, opened and brought into view. Any other link is left alone. */
  reveal(link) {
    const row = [...this.rows].find(([name]) => linkTo(name) === link)?.[1];
    if (!row) return;
    if (row.root.hidden) {
      search.value = "";
      onlyTroubled.checked = false;
      this._filter();
    }
    row.root.open = true;
    row.root.scrollIntoView();
  }

  _buildEndpoint() {
    const view = clone("endpoint-template");
    view.rows = new Keyed(view.deployments, () => new Row(this.total <= FEW), (row, args) => row.update(...args));
    return view;
  }

  _fillEndpoint(view, endpoint) {
    view.endpointName = endpoint.name;
    text(view.name, endpoint.name);
    text(view.facts, describeEndpoint(endpoint));
    const rows = endpoint.deployments.map((deployment) => {
      const name = `${endpoint.name}/${deployment.name}`;
      return [name, deployment, endpoint, this.troubles.get(name) ?? [], this.status];
    });
    view.rows.sync(rows, ([name]) => name);
    for (const [name, row] of view.rows.views) this.rows.set(name, row);
  }

  _filter() {
    const wanted = search.value.trim().toLowerCase();
    const matches = (name) => name.toLowerCase().includes(wanted) && (!onlyTroubled.checked || this.troubles.has(name));
    let found = 0;
    for (const view of this.endpoints.views.values()) {
      let here = 0;
      for (const [name, row] of view.rows.views) {
        shown(row.root, matches(name));
        here += row.root.hidden ? 0 : 1;
      }
      const empty = view.rows.views.size === 0 && matches(view.endpointName);
      shown(view.root, here > 0 || empty);
      found += here;
    }
    shown(none, found === 0);
    text(none, this.total ? "No deployment matches." : "No deployment is configured.");
  }

  _openAll(open) {
    for (const row of this.rows.values()) if (!row.root.hidden) row.root.open = open;
  }
}

/** The fragment that leads to a deployment's row. */
export function linkTo(name) {
  return `#${encodeURIComponent(idOf(name))}`;
}

function idOf(name) {
  return `deployment:${name.replaceAll(/\s/g, "_")}`;
}

class Row {
  constructor(open) {
    Object.assign(this, clone("deployment-template"));
    this.root.open = open;
    this.root.addEventListener("toggle", () => this._fillInside());
    this.marksList = new Keyed(this.marks, buildMark, fillMark);
    this.mixList = new Keyed(this.mix, buildPart, fillPart);
  }

  update(name, deployment, endpoint, troubles, status) {
    Object.assign(this, { fullName: name, deployment, endpoint, status });
    attribute(this.root, "id", idOf(name));
    attribute(this.root, "data-level", troubles.length ? troubles[0].level : null);
    text(this.name, deployment.name);
    text(this.share, describeShare(deployment, endpoint));
    this.marksList.sync(troubles, ({ mark }) => mark);
    this._fillFigures(deployment);
    this._fillInside();
  }

  _fillFigures(deployment) {
    const { ready, wanted, utilization, scaling, latency_ms: times } = deployment;
    text(this.ready, `${count(ready)}/${count(wanted)}`);
    this.mixList.sync(countStates(deployment.replicas), ([state]) => state);
    text(this.utilization, percent(utilization));
    shown(this.meter, utilization !== null);
    const target = scaling ? scaling.target : null;
    attribute(this.meter, "data-level", meterLevel(utilization, target));
    attribute(this.meter, "data-target", target);
    property(this.meter, "--value", Math.min(1, utilization ?? 0));
    property(this.meter, "--target", target ?? 0);
    text(this.inFlight, count(deployment.in_flight));
    text(this.waiting, count(deployment.queue_depth));
    attribute(this.waiting, "class", deployment.queue_depth > 0 ? "some" : null);
    text(this.rate, rate(deployment.requests_per_second));
    for (const name of ["p50", "p90", "p99"]) text(this[name], latency(times ? times[name] : null));
  }

  _fillInside() {
    if (!this.root.open) return;
    if (!this.within) this._buildInside();
    const { deployment, status, within } = this;
    this.chart.draw(deployment, status.time);
    this.replicas.update(this.fullName, deployment, status.actions);
    text(within.bounds, describeScaling(deployment));
    text(within.look, deployment.scaling?.reason ?? "");
    shown(within.look, within.look.textContent !== "");
    fillDecision(within, deployment.scaling ? deployment.scaling.last_decision : null, status.time);
    text(within.limits, describeLimits(deployment));
    shown(within.actions, status.actions && deployment.kind !== "static");
  }

  _buildInside() {
    const template = clone("inside-template");
    this.inside.append(template.fragment);
    this.within = slots(this.inside);
    this.chart = new Chart(this.within.chart);
    this.replicas = new Replicas(this.within);
    this.within.scale.addEventListener("click", () => askScale(this.fullName, this.deployment));
  }
}

function buildMark() {
  const root = document.createElement("span");
  root.className = "badge";
  return { root };
}

function fillMark({ root }, { level, mark }) {
  attribute(root, "data-level", level);
  text(root, mark);
}

function buildPart() {
  return { root: document.createElement("span") };
}

function fillPart({ root }, [state, number]) {
  attribute(root, "data-state", state);
  property(root, "flex-grow", number);
}

function meterLevel(utilization, target) {
  if (utilization !== null && utilization > 1) return "critical";
  return utilization !== null && target !== null && utilization > target ? "warning" : null;
}

function describeEndpoint({ auth_mode: auth, routes, traffic, mirror_traffic: mirror, deployments }) {
  const parts = [auth === "none" ? "no key" : `auth: ${auth}`];
  const paths = routes.map(({ host, path_prefix: prefix }) => `${host ?? ""}${prefix}`);
  if (paths.length) parts.push(`routes ${paths.join(", ")}`);
  const shares = (weights) => Object.entries(weights).map(([name, share]) => `${name} ${share} %`).join(", ");
  if (deployments.length > 1) parts.push(`traffic ${shares(traffic) || "to none"}`);
  if (Object.keys(mirror).length) parts.push(`mirrored ${shares(mirror)}`);
  return parts.join(" · ");
}

function describeShare({ name, kind }, { traffic, deployments }) {
  return deployments.length > 1 ? `${kind}, ${traffic[name] ?? 0} %` : kind;
}

function describeScaling({ kind, wanted, scaling }) {
  const wantedReplicas = plural(wanted, "replica");
  if (!scaling) return kind === "static" ? `Fixed addresses: ${count(wanted)}.` : `Fixed: ${wantedReplicas}.`;
  const { min, max, target, polling_interval: interval, manual } = scaling;
  const range = `${count(min)} to ${plural(max, "replica")}`;
  const bounds = `${range}, target ${percent(target)}, looked at every ${interval} s.`;
  return manual ? `Set by hand to ${wantedReplicas}. Otherwise ${bounds}` : bounds;
}

function describeLimits({ capacity_per_replica: capacity, max_queue_length: queue }) {
  const each = capacity ? `${plural(capacity, "request")} at once per replica` : "No limit of requests per replica";
  return `${each}, at most ${count(queue)} waiting.`;
}

function fillDecision(view, decision, now) {
  shown(view.decision, decision !== null);
  if (!decision) return;
  const { time, desired, need, rule, reason } = decision;
  text(view.when, `Last decision ${ago(now - time)}, at ${clock(time)}`);
  text(view.reason, reason);
  text(view.figures, `desired ${count(desired)}, need ${count(need)}, rule ${rule}`);
}
