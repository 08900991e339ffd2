/* The page's loop: asks fe for its status and events every second and hands them to the parts of the page.

   Owns: polling (one request under way at a time, longer pauses while fe does not answer, none while nobody
   looks), the banner, the page's head, totals, problems and the router's own figures. Never: a change of fe
   (actions.js asks for those). Read trouble.js, cluster.js, deployments.js and events.js next. */

import { showCluster } from "./cluster.js";
import { Deployments, linkTo } from "./deployments.js";
import { Keyed, attribute, clone, shown, slots, text } from "./dom.js";
import { Events } from "./events.js";
import { bytes, clock, count, plural, rate } from "./format.js";
import { findTroubles } from "./trouble.js";

const EVERY_MS = 1000;
const SLOWEST_MS = 15_000;
const NO_ANSWER_MS = 10_000;
const MOST_TROUBLES = 8; // the rest is a number

const at = (id) => document.getElementById(id);
const totals = slots(at("totals"));
const router = slots(at("router"));
const attention = slots(at("troubles"));
const deployments = new Deployments();
const events = new Events(() => poll());
const troubleList = new Keyed(attention.list, buildTrouble, fillTrouble);
const workerList = new Keyed(at("workers"), () => clone("worker-template"), fillWorker);

// --- Polling ---

const HISTORY_MS = 5000; // most of an answer is history; between two of them the charts go on with the present
const histories = new Map(); // by full name
let historyDue = 0;
let controller = null; // its pid: a new one counts events from the start
let failures = 0;
let since = null; // when fe last answered, on this machine's clock
let timer = null;
let underWay = false;
let again = false; // asked for while one was under way

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (underWay) {
    again = true;
    return;
  }
  underWay = true;
  try {
    await refresh();
    failures = 0;
    since = Date.now();
    text(at("live"), `updated ${clock(since / 1000)}`);
    showBanner("");
  } catch (error) {
    failures += 1;
    const known = error instanceof NoAnswer;
    showBanner(known ? describeLoss(error) : `This page cannot show what fe said: ${error.message}`);
  } finally {
    underWay = false;
  }
  const pause = again ? 0 : Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.max(0, failures - 1));
  again = false;
  timer = setTimeout(poll, pause);
}

async function refresh() {
  const full = Date.now() >= historyDue;
  const status = await get(full ? "api/status?history=1" : "api/status");
  if (full) keepHistories(status);
  show(status);
  if (controller !== null && controller !== status.controller_pid) events.reset();
  controller = status.controller_pid;
  const query = events.query();
  events.update(await get(`api/events?${query}`), query);
}

class NoAnswer extends Error {}

/** A JSON answer. Throws NoAnswer on anything but 200, and when none comes in time. */
async function get(path) {
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(NO_ANSWER_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return await answer.json();
  } catch (error) {
    throw new NoAnswer(error.message);
  }
}

function keepHistories(status) {
  histories.clear();
  for (const [name, { history }] of named(status)) histories.set(name, history);
  historyDue = Date.now() + HISTORY_MS;
}

function describeLoss(error) {
  const when = since === null ? "" : ` since ${clock(since / 1000)}`;
  return `No connection to fe${when} (${error.message}); trying again.`;
}

function showBanner(what) {
  text(at("banner"), what);
  at("banner").classList.toggle("shown", what !== "");
  document.body.classList.toggle("stale", what !== "");
}

function* named(status) {
  for (const endpoint of status.endpoints) {
    for (const deployment of endpoint.deployments) yield [`${endpoint.name}/${deployment.name}`, deployment];
  }
}

// --- Showing ---

function show(status) {
  const all = [...named(status)];
  for (const [name, deployment] of all) deployment.history = histories.get(name);
  const troubles = findTroubles(status);
  shown(at("main"), true); // first: what is hidden cannot be scrolled to
  showHead(status, troubles);
  showTotals(status, all.map(([, deployment]) => deployment));
  showTroubles(troubles);
  showCluster(status.kubernetes, status.time);
  deployments.update(status, troubles);
  events.offer(all.map(([name]) => name));
  showRouter(status);
}

function showHead(status, troubles) {
  const grave = troubles.filter(({ level }) => level !== "note").length;
  text(at("version"), status.version);
  text(at("readiness"), status.ready ? "ready" : "not ready");
  attribute(at("readiness"), "data-level", status.ready ? "good" : "critical");
  document.title = grave ? `(${grave}) fe` : "fe";
}

function showTotals(status, all) {
  const sum = (name) => {
    const known = all.map((deployment) => deployment[name]).filter((value) => value !== null);
    return known.length || !all.length ? known.reduce((total, value) => total + value, 0) : null;
  };
  const active = status.workers.filter(({ state }) => state === "active").length;
  text(totals.rate, rate(sum("requests_per_second")));
  text(totals.inFlight, count(sum("in_flight")));
  text(totals.waiting, count(sum("queue_depth")));
  text(totals.replicas, `${count(sum("ready"))}/${count(sum("wanted"))}`);
  text(totals.workers, `${count(active)}/${count(status.workers.length)}`);
}

function showTroubles(troubles) {
  const rest = troubles.length - MOST_TROUBLES;
  troubleList.sync(troubles.slice(0, MOST_TROUBLES), ({ where, what, mark }) => `${where} ${mark ?? what}`);
  attribute(at("troubles"), "data-level", troubles.length ? troubles[0].level : "good");
  text(attention.rest, rest > 0 ? `and ${plural(rest, "more problem")}` : "");
  shown(attention.rest, rest > 0);
  shown(attention.list, troubles.length > 0);
  shown(attention.calm, troubles.length === 0);
}

function buildTrouble() {
  const view = clone("trouble-template");
  view.where.addEventListener("click", () => deployments.reveal(view.where.hash)); // the address may be there already
  return view;
}

function fillTrouble(view, { level, where, what, cluster }) {
  const [name, link] = cluster ? ["Kubernetes", "#cluster-title"] : ["fe", "#router-title"];
  text(view.level, level);
  attribute(view.level, "data-level", level);
  text(view.where, where ?? name);
  attribute(view.where, "href", where === null ? link : linkTo(where));
  text(view.what, what);
}

function showRouter(status) {
  workerList.sync(status.workers, ({ index }) => index);
  const { applied, refused, last_ok: ok } = status.reloads;
  const { bytes: size, deployments: rows, replicas } = status.table;
  text(router.config, `version ${count(status.config_version)}`);
  text(router.reloads, `${count(applied)} applied, ${count(refused)} refused${ok ? "" : ", the last one refused"}`);
  text(router.controller, `pid ${status.controller_pid}`);
  const used = ({ used: number, limit }) => `${count(number)} of ${count(limit)}`;
  text(router.table, `${bytes(size)}; ${used(rows)} deployments, ${used(replicas)} replicas`);
}

function fillWorker(view, worker) {
  text(view.index, worker.index);
  text(view.state, worker.state);
  attribute(view.state, "data-level", worker.state === "active" ? null : "critical");
  text(view.pid, worker.pid);
  text(view.starts, count(worker.starts));
  text(view.slots, count(worker.slots_in_use));
}

document.addEventListener("visibilitychange", () => poll());
poll();
