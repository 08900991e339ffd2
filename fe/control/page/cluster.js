/* The strip about Kubernetes: who scales, the front-ends, how well the cluster is seen, what is wrong with objects.

   Owns: the strip and its words; it is there only where fe has a cluster. Never: which of it is a problem (trouble.js
   has those rules), conflicts and waiting traffic (they stand at their deployment's row). Filled by app.js. */

import { Keyed, attribute, clone, shown, slots, text } from "./dom.js";
import { clock, lasting, plural } from "./format.js";
import { judgeLead, judgeSight } from "./trouble.js";

const strip = document.getElementById("cluster");
const view = slots(strip);
const members = new Keyed(view.members, () => clone("member-template"), fillMember);
const problems = new Keyed(view.problems, () => ({ root: document.createElement("li") }), (one, what) => text(one.root, what));

/** Shows `cluster`, the status's part `kubernetes`; null hides the strip. */
export function showCluster(cluster, now) {
  shown(strip, Boolean(cluster));
  if (!cluster) return;
  const lead = judgeLead(cluster);
  const sight = judgeSight(cluster);
  fillBadge(view.lead, lead.level ?? (cluster.leading ? "good" : null), lead.what);
  fillBadge(view.sight, sight.level ?? "good", sight.what);
  text(view.why, sight.why ?? "");
  shown(view.why, Boolean(sight.why));
  const facts = cluster.siblings.map((one) => ({ ...one, own: cluster.identity, leader: lead.who, now }));
  members.sync(facts, ({ identity }) => identity);
  text(view.seen, describeSeen(cluster));
  problems.sync(cluster.problems, (what) => what);
  shown(view.problems, cluster.problems.length > 0);
}

function fillBadge(node, level, what) {
  text(node, what);
  attribute(node, "data-level", level);
}

function fillMember(one, { identity, address, since, own, leader, now }) {
  const roles = [address, `for ${lasting(Math.max(0, now - since))}`];
  if (identity === own) roles.unshift("this one");
  text(one.identity, identity);
  text(one.facts, roles.join(" · "));
  attribute(one.root, "title", `runs since ${clock(since)}`);
  shown(one.leads, identity === leader);
}

/** How much there is of what can be seen, by namespace: `models: 12 pods, 3 deployments`. */
function describeSeen({ views, namespace, identity, siblings }) {
  const kinds = Map.groupBy(views.filter(({ objects }) => objects > 0), (one) => one.namespace);
  const parts = [...kinds].map(([where, all]) => {
    const figures = all.map(({ kind, objects }) => plural(objects, kind.replace(/s$/, ""))).join(", ");
    return `${where === "*" ? "all namespaces" : where}: ${figures}`;
  });
  const known = siblings.some((one) => one.identity === identity);
  const self = known ? "" : `this one is ${identity}${namespace ? ` in ${namespace}` : ""}`;
  return [self, ...parts].filter(Boolean).join(" · ");
}
