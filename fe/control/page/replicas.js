/* The replicas of one deployment as cells, and the one that was chosen in full.

   Owns: cells that show state (a shape, and a word where there is room) and load at a glance; hundreds stay
   readable because a cell then drops its address. Never: what a button does (actions.js). Opened from
   deployments.js. */

import { askDrain } from "./actions.js";
import { Keyed, attribute, clone, property, shown, text } from "./dom.js";
import { count, UNKNOWN } from "./format.js";

const ORDER = ["ready", "starting", "ejected", "draining", "removing", "free"];
const ROOMY = 24; // up to so many cells carry their address

/** States and how many replicas are in each, in a fixed order; a state that is new here comes last. */
export function countStates(replicas) {
  const counts = new Map(ORDER.map((state) => [state, 0]));
  for (const { state } of replicas) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].filter(([, number]) => number > 0);
}

export class Replicas {
  constructor(view) {
    this.view = view;
    this.chosen = null; // its address
    this.cells = new Keyed(view.cells, (key) => this._buildCell(key), (cell, replica) => this._fillCell(cell, replica));
    this.legend = new Keyed(view.legend, () => clone("legend-template"), fillLegend);
    view.drain.addEventListener("click", () => askDrain(this.name, this.chosen, true));
    view.undrain.addEventListener("click", () => askDrain(this.name, this.chosen, false));
  }

  update(name, deployment, actions) {
    this.last = [name, deployment, actions];
    this.name = name;
    this.capacity = deployment.capacity_per_replica;
    this.view.cells.classList.toggle("roomy", deployment.replicas.length <= ROOMY);
    this.legend.sync(countStates(deployment.replicas), ([state]) => state);
    this.cells.sync(deployment.replicas, (replica) => replica.address);
    const chosen = deployment.replicas.find((replica) => replica.address === this.chosen);
    shown(this.view.chosen, chosen !== undefined);
    if (chosen) this._fillChosen(chosen, actions);
  }

  _buildCell(address) {
    const cell = clone("cell-template");
    cell.button = cell.root.firstElementChild;
    cell.button.addEventListener("click", () => this._choose(address));
    return cell;
  }

  _choose(address) {
    this.chosen = this.chosen === address ? null : address;
    this.update(...this.last);
  }

  _fillCell(cell, replica) {
    const load = this._load(replica);
    const state = stateOf(replica);
    const label = `${replica.address}: ${state}, ${load} in flight`;
    if (cell.label !== label) {
      cell.label = label;
      attribute(cell.button, "aria-label", label);
      attribute(cell.button, "title", label);
      attribute(cell.button, "data-state", replica.state);
      text(cell.load, load);
      text(cell.state, state);
      text(cell.address, replica.address);
      property(cell.button, "--load", this.capacity ? Math.min(1, replica.in_flight / this.capacity) : 0);
    }
    attribute(cell.button, "aria-pressed", replica.address === this.chosen);
  }

  _fillChosen(replica, actions) {
    const { view } = this;
    text(view.address, replica.address);
    text(view.state, stateOf(replica));
    text(view.load, this._load(replica));
    text(view.failures, count(replica.failures));
    text(view.probe, replica.last_probe ?? UNKNOWN);
    shown(view.replicaActions, actions);
    shown(view.drain, !replica.held);
    shown(view.undrain, Boolean(replica.held));
  }

  _load(replica) {
    return `${count(replica.in_flight)}/${this.capacity ? count(this.capacity) : "∞"}`;
  }
}

function stateOf(replica) {
  return replica.held ? `${replica.state} by hand` : replica.state;
}

function fillLegend(view, [state, number]) {
  attribute(view.root, "data-state", state);
  text(view.text, `${count(number)} ${state}`);
}
