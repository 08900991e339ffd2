/* The history of a deployment as lines to draw.

   Owns: times and values by name, the paths made of them, a round scale, the summary in words. Never: the DOM;
   chart.js draws. History is the status' own, oldest first, null where nothing is known; the present is added as
   the newest point, so that lines move between two points of the history. */

import { count, percent, plural } from "./format.js";

const LEAST_S = 60; // of the window: the first points of a young history are not spread over all of the width
const NAMES = ["utilization", "in_flight", "queue_depth", "ready", "wanted"];
const NONE = { end: 0, ...Object.fromEntries(NAMES.map((name) => [name, []])) };

/** `{from, to, times, utilization, target, ...}` as of `time`, all arrays of one length. */
export function buildSeries(deployment, time) {
  const history = deployment.history ?? NONE;
  const length = history.utilization.length;
  const past = history.utilization.map((_, index) => history.end - (length - 1 - index) * history.period_s);
  const to = Math.max(time, history.end);
  const series = { from: Math.min(to - LEAST_S, past[0] ?? to), to, times: [...past, to] };
  for (const name of NAMES) series[name] = [...history[name], deployment[name]];
  const target = deployment.scaling ? deployment.scaling.target : null;
  series.target = series.times.map(() => target);
  return series;
}

/** Runs of points without a gap, as path commands: `{line, area}`; the area reaches down to `bottom`. */
export function buildPath(xs, ys, steps, bottom) {
  let line = "";
  let area = "";
  for (const { from, to } of runs(ys)) {
    let d = `M${xs[from].toFixed(1)} ${ys[from].toFixed(1)}`;
    for (let index = from + 1; index < to; index++) {
      const [x, y] = [xs[index].toFixed(1), ys[index].toFixed(1)];
      d += steps ? `H${x}V${y}` : `L${x} ${y}`;
    }
    line += to - from > 1 ? d : `${d}h.1`; // a single point is seen, too
    area += `${d}V${bottom}H${xs[from].toFixed(1)}Z`;
  }
  return { line, area };
}

function* runs(values) {
  let from = null;
  for (let index = 0; index <= values.length; index++) {
    const known = index < values.length && values[index] !== null;
    if (known && from === null) from = index;
    if (!known && from !== null) {
      yield { from, to: index };
      from = null;
    }
  }
}

/** A round number at or above every value of the lines, and at or above 1. */
export function ceilingOf(lines) {
  const most = Math.max(1, ...lines.flat().filter((value) => value !== null));
  const power = 10 ** Math.floor(Math.log10(most));
  const round = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((one) => one * power >= most - 1e-9) * power;
  return power === 1 && round !== 1.2 && round !== 1.6 ? Math.round(round) : round;
}

/** The index of the time closest to `time`. */
export function nearest(times, time) {
  const distances = times.map((one) => Math.abs(one - time));
  return distances.indexOf(Math.min(...distances));
}

/** What the drawing shows, for those who do not see it. */
export function describe(series) {
  const last = (name) => series[name][series[name].length - 1];
  const known = series.utilization.filter((value) => value !== null);
  const most = known.length ? `, highest ${percent(Math.max(...known))}` : "";
  const target = last("target") === null ? "" : `, target ${percent(last("target"))}`;
  const replicas = `${plural(last("ready"), "replica")} ready, ${count(last("wanted"))} wanted`;
  return `The last minutes: utilization ${percent(last("utilization"))}${most}${target}; ${replicas}`;
}
