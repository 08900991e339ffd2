/* What is wrong, worst first.

   Owns: the rules that turn a status into problems: `{level, where, what, mark}`, where `level` is "critical",
   "warning" or "note", `where` a deployment's full name or null for the router itself (or, with `cluster`, for
   Kubernetes), `mark` the few words shown at its row. Never: the DOM, or a figure that the status does not hold.
   deployments.js, cluster.js and app.js show them. */

import { count, lasting, percent, plural } from "./format.js";

const LEVELS = ["critical", "warning", "note"];
const NEARLY_FULL = 0.8;
const WINDOW_S = 60; // over which a queue is seen to grow
const LONG_S = 60; // a cluster that was not seen for so long is more than a server that starts again
const NEEDED = ["pods", "deployments"]; // kinds without which nothing of the cluster can be served

export function findTroubles(status) {
  const cluster = status.kubernetes ?? null;
  const found = [...ofRouter(status)];
  if (cluster) for (const one of ofCluster(cluster)) found.push({ ...one, where: null, cluster: true });
  for (const endpoint of status.endpoints) {
    for (const deployment of endpoint.deployments) {
      const where = `${endpoint.name}/${deployment.name}`;
      for (const one of ofDeployment(deployment)) found.push({ ...one, where });
      if (cluster) for (const one of ofPods(cluster, endpoint, deployment, where)) found.push({ ...one, where });
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

/** How well the cluster is seen: `{level, what, why}`; no level where it is seen as it is. */
export function judgeSight({ views }) {
  const blind = views.filter(({ refused, kind }) => refused && NEEDED.includes(kind));
  if (blind.length) {
    const kinds = blind.map(({ kind, namespace }) => `${kind} of ${namespace}`).join(", ");
    return { level: "critical", what: `fe may not see ${kinds}`, why: blind[0].trouble };
  }
  const wanted = views.filter(({ refused }) => !refused);
  const away = wanted.filter(({ trouble }) => trouble !== null);
  if (away.length) {
    const who = away.length === wanted.length ? "API server" : [...new Set(away.map(({ kind }) => kind))].join(", ");
    const ages = away.map(({ seconds_since_sync: seconds }) => seconds).filter((seconds) => seconds !== null);
    if (!ages.length) return { level: "critical", what: `${who} not reached yet`, why: away[0].trouble };
    const age = Math.max(...ages);
    const what = `${who} away for ${lasting(age)}, serving the last known state`;
    return { level: age > LONG_S ? "critical" : "warning", what, why: away[0].trouble };
  }
  const unknown = !wanted.length || wanted.some(({ seconds_since_sync: seconds }) => seconds === null);
  return unknown ? { level: "note", what: "being looked at for the first time" } : { what: "seen as it is" };
}

/** Who scales: `{level, what, who}`; no level where somebody does. */
export function judgeLead({ identity, leading, leader, election_trouble: trouble }) {
  if (leading) return { what: "this front-end scales", who: identity };
  if (leader && leader !== identity) return { what: `${leader} scales`, who: leader }; // itself: it was the last that is known of
  return { level: "warning", what: trouble ? `no front-end scales: ${trouble}` : "no front-end scales" };
}

function* ofCluster(cluster) {
  const { problems, election_trouble: trouble } = cluster;
  const { level, what, why } = judgeSight(cluster);
  if (level) yield { level, what: why ? `${what} (${why})` : what, mark: "sight" };
  const lead = judgeLead(cluster);
  if (lead.level) yield { level: lead.level, what: lead.what, mark: "lead" };
  else if (trouble) yield { level: "warning", what: `election: ${trouble}`, mark: "lead" };
  if (problems.length) {
    const all = problems.length === 1 ? problems[0] : `${plural(problems.length, "object problem")}, see below`;
    yield { level: "warning", what: all, mark: "objects" };
  }
}

/** What the cluster has to do with a deployment. */
function* ofPods({ conflicts, waiting }, endpoint, deployment, name) {
  if (conflicts[name]) {
    const what = `${conflicts[name].join(" and ")} scales the same pods: fe leaves their number alone`;
    yield { level: "warning", what, mark: "conflict" };
  }
  if (waiting[endpoint.name]?.includes(deployment.name)) {
    yield { level: "note", what: "gets its share of traffic once a replica is ready", mark: "traffic waits" };
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
    const what = `${plural(failing, "replica")} failing: ended again and again, without a place, or not ready in time`;
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
