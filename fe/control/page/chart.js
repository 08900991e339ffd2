/* The last minutes of a deployment: utilization against its target, replicas as steps, requests; one time axis.

   Owns: three panes of fixed height drawn as SVG in the width they are given, and the figures under the pointer.
   Never: a figure of its own; series.js makes the lines. Elements are made once, an update sets their paths. */

import { attribute, shown, text } from "./dom.js";
import { clock, count, mean, minute, percent } from "./format.js";
import { buildPath, buildSeries, ceilingOf, describe, nearest } from "./series.js";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 50;
const RIGHT = 6;
const TOP = 5;
const BOTTOM = 3;
const PANES = [
  {
    height: 96,
    scale: percent,
    lines: [{ name: "utilization", label: "utilization", filled: true }, { name: "target", label: "target" }],
  },
  {
    height: 56,
    scale: count,
    steps: true,
    lines: [{ name: "ready", label: "ready", filled: true }, { name: "wanted", label: "wanted" }],
  },
  {
    height: 56,
    scale: mean,
    lines: [{ name: "queue_depth", label: "waiting", filled: true }, { name: "in_flight", label: "in flight" }],
  },
];

export class Chart {
  constructor(parent) {
    this.panes = PANES.map((kind) => new Pane(parent, kind));
    this.axis = parent.appendChild(document.createElement("p"));
    this.axis.className = "axis muted";
    this.labels = [0, 1, 2].map(() => this.axis.appendChild(document.createElement("span")));
    this.at = null; // the time under the pointer
    for (const { svg } of this.panes) {
      for (const name of ["pointermove", "pointerdown"]) {
        svg.addEventListener(name, (event) => this._onPointer(event.offsetX));
      }
      svg.addEventListener("pointerleave", () => this._onPointer(null));
    }
    new ResizeObserver(([entry]) => this._onWidth(Math.floor(entry.contentRect.width))).observe(parent);
  }

  /** Shows `deployment` as of `time`. */
  draw(deployment, time) {
    this.series = buildSeries(deployment, time);
    this._draw();
  }

  _onWidth(width) {
    if (width === this.width) return;
    this.width = width;
    this._draw();
  }

  _onPointer(x) {
    if (!this.xs) return;
    const { from, to } = this.series;
    this.at = x === null ? null : from + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (to - from);
    this._drawFigures();
  }

  _draw() {
    if (!this.series || !(this.width > LEFT + RIGHT)) return;
    const { from, to, times } = this.series;
    this.xs = times.map((time) => LEFT + ((time - from) / (to - from)) * (this.width - LEFT - RIGHT));
    for (const pane of this.panes) pane.draw(this.series, this.xs, this.width);
    attribute(this.panes[0].svg, "aria-label", describe(this.series));
    const name = to - from < 240 ? clock : minute;
    text(this.labels[0], name(from));
    text(this.labels[1], name((from + to) / 2));
    this._drawFigures();
  }

  _drawFigures() {
    const last = this.xs.length - 1;
    const index = this.at === null ? last : nearest(this.series.times, this.at);
    for (const pane of this.panes) pane.point(this.series, index, this.at === null ? null : this.xs[index]);
    text(this.labels[2], this.at === null ? "now" : clock(this.series.times[index]));
  }
}

class Pane {
  constructor(parent, { height, scale, steps = false, lines }) {
    Object.assign(this, { height, scale, steps, lines });
    this.legend = parent.appendChild(document.createElement("ul"));
    this.legend.className = "legend";
    this.svg = parent.appendChild(element("svg", { class: "pane", role: "img", height }));
    this.bottom = height - BOTTOM;
    this.grid = [TOP, this.bottom].map((y) => this._add("line", { class: "grid", x1: LEFT, y1: y, y2: y }));
    this.top = this._add("text", { x: LEFT - 7, y: TOP + 5 });
    text(this._add("text", { x: LEFT - 7, y: this.bottom }), scale(0));
    this.parts = lines.map((line) => this._buildLine(line));
    this.cursor = this._add("line", { class: "cursor", y1: TOP, y2: this.bottom, visibility: "hidden" });
  }

  draw(series, xs, width) {
    const ceiling = ceilingOf(this.lines.map(({ name }) => series[name]));
    const y = (value) => (value === null ? null : this.bottom - (value / ceiling) * (this.bottom - TOP));
    attribute(this.svg, "width", width);
    for (const line of this.grid) attribute(line, "x2", width - RIGHT);
    text(this.top, this.scale(ceiling));
    for (const { name, line, area } of this.parts) {
      const d = buildPath(xs, series[name].map(y), this.steps, this.bottom);
      attribute(line, "d", d.line);
      if (area) attribute(area, "d", d.area);
    }
  }

  /** Shows the figures of one point, and a line there unless `x` is null. */
  point(series, index, x) {
    attribute(this.cursor, "visibility", x === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) attribute(this.cursor, end, x === null ? 0 : x.toFixed(1));
    for (const { name, item, value } of this.parts) {
      text(value, this.scale(series[name][index]));
      if (name === "target") shown(item, series[name][index] !== null);
    }
  }

  _buildLine({ name, label, filled = false }) {
    const item = this.legend.appendChild(document.createElement("li"));
    const sample = item.appendChild(document.createElement("span"));
    sample.className = `sample ${name}`;
    item.append(`${label} `);
    const value = item.appendChild(document.createElement("b"));
    const area = filled ? this._add("path", { class: `area ${name}` }) : null;
    return { name, item, value, area, line: this._add("path", { class: `line ${name}` }) };
  }

  _add(name, attributes) {
    return this.svg.appendChild(element(name, attributes));
  }
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
