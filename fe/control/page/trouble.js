/* What is wrong, worst first.

   Owns: the rules that turn a status into problems: `{level, where, what, mark}`, where `level` is "critical",
   "warning" or "note", `where` a deployment's full name or null for the router itself, `mark` the few words shown
   at its row. Never: the DOM, or a figure that the status does not hold. deployments.js and app.js show them. */

import { count, percent, plural } from "./format.js";

const LEVELS = ["critical", "warning", "note"];
const NEARLY_FULL = 0.8;
const WINDOW_S = 60; // over which a queue is seen to grow

export function findTroubles(status) {
  const found = [...ofRouter(status)];
  for (const endpoint of status.endpoints) {
    for (const deployment of endpoint.deployments) {
      const where = `${endpoint.name}/${deployment.name}`;
      for (const one of ofDeployment(deployment)) found.push({ ...one, where });
    }
  }
  return found.sort((one, other) => LEVELS.indexOf(one.level) - LEVELS.indexOf(other.level));
}

function* ofRouter(status) {
  for (const reason of status.not_ready) yield { level: "critical", where: null, what: `not ready: ${reason}` };
  if (!status.reloads.last_ok) {
    yield { level: "warning", where: null, what: "the last reload was refused; what was applied before goes on" };
  }
  const slots = status.table.slots;
  for (const worker of status.workers) {
    if (slots && worker.slots_in_use >= NEARLY_FULL * slots) {
      const figures = `${count(worker.slots_in_use)} of ${count(slots)}`;
      yield { level: "warning", where: null, what: `worker ${worker.index} holds ${figures} requests it can have` };
    }
  }
  for (const kind of ["deployments", "replicas"]) {
    const { used, limit } = status.table[kind];
    if (limit && used >= NEARLY_FULL * limit) {
      const figures = `${count(used)} of ${count(limit)}`;
      yield { level: "warning", where: null, what: `the table holds ${figures} ${kind}` };
    }
  }
}

function* ofDeployment(deployment) {
  yield* ofReplicas(deployment);
  yield* ofQueue(deployment);
  const { scaling, utilization, wanted } = deployment;
  if (scaling && !scaling.manual && wanted >= scaling.max && utilization !== null && utilization > scaling.target) {
    const what = `at its maximum of ${plural(scaling.max, "replica")}, utilization ${percent(utilization)}`;
    yield { level: "warning", what, mark: "at maximum" };
  }
}

function* ofReplicas({ wanted, ready, starting, failing, replicas }) {
  if (wanted > 0 && ready === 0) {
    const what = `no ready replica of ${count(wanted)} wanted${starting ? `, ${count(starting)} starting` : ""}`;
    yield { level: "critical", what, mark: "no ready replica" };
  }
  if (failing > 0) {
    const what = `${plural(failing, "replica")} failing whenever started`;
    yield { level: "critical", what, mark: `${count(failing)} failing` };
  }
  const ejected = replicas.filter((one) => one.state === "ejected");
  if (ejected.length > 0) {
    const probe = ejected[0].last_probe ? `, last probe of ${ejected[0].address}: ${ejected[0].last_probe}` : "";
    const what = `${plural(ejected.length, "replica")} ejected${probe}`;
    yield { level: "warning", what, mark: `${count(ejected.length)} ejected` };
  }
  const held = replicas.filter((one) => one.held).length;
  if (held > 0) {
    yield { level: "note", what: `${plural(held, "replica")} drained by hand`, mark: `${count(held)} held` };
  }
}

function* ofQueue(deployment) {
  const { queue_depth: depth, max_queue_length: most } = deployment;
  if (most > 0 && depth >= NEARLY_FULL * most) {
    const what = `queue nearly full: ${count(depth)} of ${count(most)}`;
    yield { level: "critical", what, mark: "queue nearly full" };
    return;
  }
  const before = earlierDepth(deployment);
  if (before !== null && depth > 2 * before + deployment.ready) {
    const what = `queue growing: ${count(before)} to ${count(depth)} within a minute`;
    yield { level: "warning", what, mark: "queue growing" };
  }
}

/** The queue's depth a minute ago, or at the oldest point known since; null without a history. */
function earlierDepth({ history }) {
  if (!history || history.queue_depth.length < 2) return null;
  const back = Math.round(WINDOW_S / history.period_s);
  const known = history.queue_depth.slice(-back).filter((one) => one !== null);
  return known.length ? Math.round(known[0]) : null;
}
