/** The dashboard: asks every few seconds, listens to what runs, and keeps the page up to date. */

import { getKey, setKey } from "./api.js";
import { openDetails, updateDetails } from "./dashboard-details.js";
import { refreshHealth } from "./dashboard-health.js";
import { Jobs, Refused, isFinal } from "./dashboard-jobs.js";
import { fillRecent, fillRunning, fillWaiting } from "./dashboard-list.js";
import { Live } from "./dashboard-live.js";
import { Rows, hide, say } from "./dashboard-rows.js";
import { byId } from "./dom.js";

const POLL_MS = 3000;
const HEALTH_MS = 15_000;
const TICK_MS = 1000;
const PICTURE = /^image\/(jpeg|png|webp)$/;
const WRONG_KEY = "This key does not open. Check it, and try again.";

const jobs = new Jobs();
const live = new Live(hear);
/** Id of a running job -> its latest preview. */
const previews = new Map();
const cancelling = new Set();
const running = new Rows(byId("running"), byId("running-row"), fillRunning);
const waiting = new Rows(byId("waiting"), byId("waiting-row"), fillWaiting);
const recent = new Rows(byId("recent"), byId("recent-row"), fillRecent);

let timer;
let healthAt = -Infinity;
let turn = Promise.resolve();

// -- what is asked ------------------------------------------------------------------------------

async function beat() {
  clearTimeout(timer);
  try {
    if (!document.hidden && byId("door").hidden) await inTurn(refresh);
  } finally {
    // Perhaps another one, begun when the page was shown again, has set it meanwhile.
    clearTimeout(timer);
    timer = setTimeout(beat, POLL_MS);
  }
}

async function refresh() {
  await jobs.refresh((id) => live.hears(id));
  if (Date.now() - healthAt > HEALTH_MS) {
    await refreshHealth();
    healthAt = Date.now();
  }
  say(byId("trouble"), "");
}

/** One after another: an answer to an earlier question never comes after a later one's. */
function inTurn(work) {
  const done = turn.then(work).then(letIn, refuse).then(render);
  turn = done.catch(() => {});
  return done;
}

function hear(id, { name, data }) {
  if (name === "status") jobs.put(data);
  // The next one runs already.
  if (name === "status" && isFinal(data)) beat();
  else if (name === "progress") jobs.move(id, data);
  else if (name === "preview" && PICTURE.test(data.content_type)) {
    previews.set(id, `data:${data.content_type};base64,${data.data}`);
  }
  render();
}

// -- who may look -------------------------------------------------------------------------------

function letIn() {
  hide(byId("inside"), false);
  hide(byId("door"), true);
}

function refuse(error) {
  if (!(error instanceof Refused)) throw error;
  const isAboutKey = error.status === 401 || (error.status === 403 && getKey());
  if (!isAboutKey) {
    say(byId("trouble"), error.message);
    return;
  }
  say(byId("trouble"), error.status === 403 ? error.message : getKey() ? WRONG_KEY : "");
  lock();
}

function lock() {
  setKey("");
  jobs.forget();
  previews.clear();
  hide(byId("inside"), true);
  hide(byId("door"), false);
  hide(byId("overall"), true);
  byId("key").focus();
}

// -- what is shown ------------------------------------------------------------------------------

function render() {
  const now = { running: jobs.running, waiting: jobs.waiting, recent: jobs.recent };
  const shown = (job) => ({
    id: job.job_id,
    job,
    preview: previews.get(job.job_id),
    isCancelling: cancelling.has(job.job_id),
  });
  running.show(now.running.map(shown));
  waiting.show(now.waiting.map(shown));
  recent.show(now.recent.map(shown));
  renderCounts(now);
  tellEnded();
  updateDetails((id) => jobs.find(id));
  const ids = document.hidden ? [] : now.running.map((job) => job.job_id);
  previews.forEach((_, id) => ids.includes(id) || previews.delete(id));
  live.follow(ids);
}

function renderCounts(now) {
  const last = now.waiting.at(-1)?.progress.queue_position;
  const isCut = jobs.hasMoreWaiting;
  count("running", now.running.length);
  count("waiting", now.waiting.length, isCut ? (last ?? `${now.waiting.length}+`) : undefined);
  hide(byId("waiting-more"), !isCut);
  say(byId("waiting-more"), isCut ? "Others wait ahead of the ones that are shown." : "");
  hide(byId("recent-none"), now.recent.length > 0);
  const isFiltered = jobs.filter.status || jobs.filter.workflow;
  say(byId("recent-none"), isFiltered ? "No such jobs." : "No job has ended yet.");
  hide(byId("load-more"), !jobs.hasMore);
  hide(byId("forget"), !getKey());
  for (const id of ["trouble", "refused"]) hide(byId(id), !byId(id).textContent);
  document.title = now.running.length ? `(${now.running.length}) Dashboard` : "Dashboard";
}

function count(list, number, text = `${number}`) {
  say(byId(`${list}-count`), number ? `${text}` : "");
  hide(byId(`${list}-none`), number > 0);
}

/** For those who cannot see the lists change. */
function tellEnded() {
  const ended = jobs.ended.splice(0);
  if (ended.length === 0) return;
  const sentences = ended.map((job) => `${job.workflow} ${job.status}. ${job.error ?? ""}`);
  byId("spoken").textContent = ended.length > 3 ? `${ended.length} jobs have ended.` : sentences.join(" ");
}

// -- what is done -------------------------------------------------------------------------------

async function cancel(id) {
  cancelling.add(id);
  say(byId("refused"), "");
  render();
  try {
    await jobs.cancel(id);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(byId("refused"), error.message);
  } finally {
    cancelling.delete(id);
    render();
  }
}

byId("inside").addEventListener("click", (event) => {
  const id = event.target.closest("[data-id]")?.dataset.id;
  if (event.target.closest(".cancel")) cancel(id);
  else if (event.target.closest(".open, .thumb")) openDetails(jobs.find(id));
});

byId("filters").addEventListener("change", (event) => {
  const { status, workflow } = event.currentTarget.elements;
  const filter = { status: status.value, workflow: workflow.value };
  inTurn(() => {
    jobs.choose(filter);
    return refresh();
  });
});

byId("load-more").addEventListener("click", () => inTurn(() => jobs.readMore()));

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value);
  byId("key").value = "";
  healthAt = -Infinity;
  inTurn(refresh);
});

byId("forget").addEventListener("click", () => {
  lock();
  render();
});

document.addEventListener("visibilitychange", () => (document.hidden ? live.follow([]) : beat()));

setInterval(() => document.hidden || render(), TICK_MS);
beat();
