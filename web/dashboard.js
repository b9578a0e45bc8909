/** The dashboard: polls every few seconds, listens to what runs, and keeps the page up to date. */

import { Api, isAborted } from "./api.js";
import { JobDialog } from "./dashboard-details.js";
import { HealthLists } from "./dashboard-health.js";
import { Jobs, Refused, isFinal } from "./dashboard-jobs.js";
import { fillRecent, fillRunning, fillWaiting } from "./dashboard-list.js";
import { Live } from "./dashboard-live.js";
import { Thumbnails } from "./dashboard-pictures.js";
import { Rows, hide, say, template } from "./dashboard-rows.js";
import { byId, closest } from "./dom.js";
import { Login, sendKeyWithDocumentLink } from "./login.js";

/** @import { KnownJob } from "./dashboard-jobs.js" */
/** @import { Shown } from "./dashboard-list.js" */
/** @typedef {{ running: KnownJob[], waiting: KnownJob[], recent: KnownJob[] }} Lists */

const POLL_MS = 3000;
const HEALTH_MS = 15_000;
const TICK_MS = 1000;
const PICTURE = /^image\/(jpeg|png|webp)$/;

class Dashboard {
  #api = new Api();
  #jobs = new Jobs(this.#api);
  #live = new Live(this.#api, (id, event) => this.#onEvent(id, event));
  #thumbnails = new Thumbnails(this.#api);
  #dialog = new JobDialog(this.#api, this.#thumbnails);
  #health = new HealthLists(this.#api);
  #login = new Login(this.#api, { onKey: () => this.#onKey(), onForget: () => this.#clear() });
  #running = new Rows(byId("running"), template("running-row"), fillRunning);
  #waiting = new Rows(byId("waiting"), template("waiting-row"), fillWaiting);
  #recent = new Rows(
    byId("recent"),
    template("recent-row"),
    (row, /** @type {Shown} */ shown) => fillRecent(row, shown, this.#thumbnails),
  );
  /**
   * Id of a running job -> the URL of its latest preview.
   * @type {Map<string, string>}
   */
  #previews = new Map();
  /**
   * Ids of jobs that are being cancelled.
   * @type {Set<string>}
   */
  #cancelling = new Set();
  #pollTimer = 0;
  #healthAt = -Infinity;
  /** Settled when all work that was serialized so far is done. */
  #serialized = Promise.resolve();

  start() {
    byId("inside").addEventListener("click", (event) => this.#onClick(event));
    byId("filters").addEventListener("change", () => this.#onFilter());
    byId("load-more").addEventListener("click", () => this.#serialize(() => this.#jobs.readMore()));
    sendKeyWithDocumentLink(this.#api);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#live.follow([]);
      else this.#poll();
    });
    setInterval(() => document.hidden || this.#render(), TICK_MS);
    this.#poll();
  }

  // -- what is asked ----------------------------------------------------------------------------

  async #poll() {
    clearTimeout(this.#pollTimer);
    try {
      if (!document.hidden && this.#login.isOpen) await this.#serialize(() => this.#refresh());
    } finally {
      // Perhaps another one, begun when the page was shown again, has set it meanwhile.
      clearTimeout(this.#pollTimer);
      this.#pollTimer = setTimeout(() => this.#poll(), POLL_MS);
    }
  }

  async #refresh() {
    await this.#jobs.refresh((id) => this.#live.isLive(id));
    if (Date.now() - this.#healthAt > HEALTH_MS) {
      await this.#health.refresh();
      this.#healthAt = Date.now();
    }
    say(byId("trouble"), "");
  }

  /**
   * One after another: an answer to an earlier question never comes after a later one's.
   * @param {() => Promise<void>} work
   */
  #serialize(work) {
    const done = this.#serialized
      .then(work)
      .then(
        () => this.#login.open(),
        (error) => this.#onRefusal(error),
      )
      .then(() => this.#render());
    this.#serialized = done.catch(() => {});
    return done;
  }

  /**
   * @param {string} id
   * @param {JobEvent} event
   */
  #onEvent(id, { name, data }) {
    if (name === "status") this.#jobs.put(data);
    // The key does not open any more.
    if (name === "problem") this.#poll();
    // The next one runs already.
    else if (name === "status" && isFinal(data)) this.#poll();
    else if (name === "progress") this.#jobs.updateProgress(id, data);
    else if (name === "preview" && PICTURE.test(data.content_type)) {
      this.#previews.set(id, `data:${data.content_type};base64,${data.data}`);
    }
    this.#render();
  }

  // -- who may look -----------------------------------------------------------------------------

  /** @param {unknown} error */
  #onRefusal(error) {
    // What was asked with a key that is forgotten says nothing any more.
    if (isAborted(error)) return;
    if (!(error instanceof Refused)) throw error;
    this.#login.refused(error);
  }

  /** Forget all that the key has shown. */
  #clear() {
    this.#jobs.clear();
    this.#previews.clear();
    this.#thumbnails.keepOnly(new Set());
    this.#dialog.close();
    this.#health.clear();
    for (const id of ["spoken", "trouble", "refused"]) say(byId(id), "");
    this.#render();
  }

  #onKey() {
    this.#healthAt = -Infinity;
    this.#serialize(() => this.#refresh());
  }

  // -- what is shown ----------------------------------------------------------------------------

  #render() {
    const { running, waiting, recent } = this.#jobs;
    this.#running.show(running.map((job) => this.#shown(job)));
    this.#waiting.show(waiting.map((job) => this.#shown(job)));
    this.#recent.show(recent.map((job) => this.#shown(job)));
    this.#renderCounts({ running, waiting, recent });
    this.#announceEnded();
    this.#dialog.update(this.#jobs.find(this.#dialog.jobId ?? ""));
    const ids = document.hidden ? [] : running.map((job) => job.job_id);
    this.#previews.forEach((_, id) => ids.includes(id) || this.#previews.delete(id));
    this.#thumbnails.keepOnly(new Set([...recent.map((job) => job.job_id), this.#dialog.jobId ?? ""]));
    this.#live.follow(ids);
  }

  /** @param {KnownJob} job */
  #shown(job) {
    return {
      id: job.job_id,
      job,
      preview: this.#previews.get(job.job_id),
      isCancelling: this.#cancelling.has(job.job_id),
    };
  }

  /** @param {Lists} lists */
  #renderCounts({ running, waiting, recent }) {
    const { filter, hasMore, hasMoreWaiting: isCut } = this.#jobs;
    const last = waiting.at(-1)?.progress.queue_position;
    showCount("running", running.length);
    showCount("waiting", waiting.length, isCut ? `${last ?? `${waiting.length}+`}` : undefined);
    hide(byId("waiting-more"), !isCut);
    say(byId("waiting-more"), isCut ? "Others wait ahead of the ones that are shown." : "");
    hide(byId("recent-none"), recent.length > 0);
    const isFiltered = filter.status || filter.workflow;
    say(byId("recent-none"), isFiltered ? "No such jobs." : "No job has ended yet.");
    hide(byId("load-more"), !hasMore);
    for (const id of ["trouble", "refused"]) hide(byId(id), !byId(id).textContent);
    document.title = running.length ? `(${running.length}) Dashboard` : "Dashboard";
  }

  /** For those who cannot see the lists change. */
  #announceEnded() {
    const ended = this.#jobs.ended.splice(0);
    if (ended.length === 0) return;
    const sentences = ended.map((job) => `${job.workflow} ${job.status}. ${job.error ?? ""}`);
    const isMany = ended.length > 3;
    byId("spoken").textContent = isMany ? `${ended.length} jobs have ended.` : sentences.join(" ");
  }

  // -- what is done -----------------------------------------------------------------------------

  /** @param {Event} event */
  #onClick(event) {
    const job = this.#jobs.find(closest(event, "[data-id]")?.dataset.id ?? "");
    if (!job) return;
    if (closest(event, ".cancel")) this.#cancel(job.job_id);
    else if (closest(event, ".open, .thumb")) this.#dialog.open(job);
  }

  #onFilter() {
    const status = byId("status-filter", HTMLSelectElement).value;
    const workflow = byId("workflow-filter", HTMLSelectElement).value;
    this.#serialize(() => {
      this.#jobs.setFilter({ status, workflow });
      return this.#refresh();
    });
  }

  /** @param {string} id */
  async #cancel(id) {
    this.#cancelling.add(id);
    say(byId("refused"), "");
    this.#render();
    try {
      await this.#jobs.cancel(id);
    } catch (error) {
      if (error instanceof Refused) say(byId("refused"), error.message);
      else if (!isAborted(error)) throw error;
    } finally {
      this.#cancelling.delete(id);
      this.#render();
    }
  }
}

/**
 * @param {string} list
 * @param {number} number
 */
function showCount(list, number, text = `${number}`) {
  say(byId(`${list}-count`), number ? text : "");
  hide(byId(`${list}-none`), number > 0);
}

new Dashboard().start();
