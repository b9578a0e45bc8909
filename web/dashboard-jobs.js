/** What this page knows of the jobs, and how it learns more. */

import { FINAL, isAborted, refusal } from "./api.js";

/** @import { Api } from "./api.js" */

/**
 * A job, and when its progress was received.
 * @typedef {JobView & { progress: ProgressView & { received: number } }} KnownJob
 */
/** @typedef {{ status: string, workflow: string }} Filter */

const PAGE = 25;
const MOST_UNFINISHED = 100;
/** A page that is open for days begins anew when it knows so many. */
const MOST_KNOWN = 1000;
/** So many empty pages are passed over at a time, where others' jobs are between one's own. */
const MOST_EMPTY = 10;
/** Jobs have these one after another: asked in this order, none slips through unseen. */
/** @type {JobStatus[]} */
const UNFINISHED = ["pending", "processing"];
/** @type {(string | null)[]} */
const WAITING = ["queued", "fetching_inputs"];

/** An answer that is no data. Status 0: there was none at all. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * The JSON of an answer that is ok.
 * @param {Api} api
 * @param {string} path
 * @param {RequestInit} options
 */
export async function read(api, path, options = {}) {
  const reply = await answer(api, path, { cache: "no-store", ...options });
  if (!reply.ok) throw new Refused(await refusal(reply), reply.status);
  return reply.json();
}

/**
 * Whatever the server answers.
 * @param {Api} api
 * @param {string} path
 * @param {RequestInit} options
 */
export async function answer(api, path, options) {
  try {
    return await api.ask(path, options);
  } catch (error) {
    if (isAborted(error)) throw error;
    throw new Refused("The server does not answer. Trying again…", 0);
  }
}

export class Jobs {
  #api;
  /** @type {Filter} */
  filter = { status: "", workflow: "" };
  /** Whether more jobs wait than are known. */
  hasMoreWaiting = false;
  /**
   * What was seen to end, for whoever takes it from here.
   * @type {JobView[]}
   */
  ended = [];
  /** @type {Map<string, KnownJob>} */
  #known = new Map();
  /**
   * Status -> how far its list was read.
   * @type {Map<string, { next: string | null, end: string }>}
   */
  #lists = new Map();
  /**
   * What was missing where it should have been listed: a list may lag behind.
   * @type {Set<string>}
   */
  #missing = new Set();
  /**
   * When the last job that was read before had ended; null before anything was read.
   * @type {string | null}
   */
  #readUntil = null;

  /** @param {Api} api */
  constructor(api) {
    this.#api = api;
  }

  get running() {
    return this.#with(isAtWork).sort(by((job) => job.started_at ?? job.created_at));
  }

  get waiting() {
    const waiting = this.#with((job) => !isFinal(job) && !isAtWork(job));
    // The last order counts most: sorting keeps what is equal as it was.
    return waiting
      .sort(by((job) => job.created_at))
      .sort(by((job) => -rank(job)))
      .sort(by((job) => job.progress.queue_position ?? Infinity));
  }

  /** Jobs that have ended and pass the filter, newest first. */
  get recent() {
    const horizon = this.#horizon();
    const { status, workflow } = this.filter;
    return this.#with(
      (job) =>
        isFinal(job) &&
        job.created_at >= horizon &&
        (!status || job.status === status) &&
        (!workflow || job.workflow === workflow),
    )
      .sort(by((job) => job.created_at))
      .reverse();
  }

  get hasMore() {
    return this.#statuses.some((status) => this.#lists.get(status)?.next);
  }

  /** @param {string} id */
  find(id) {
    return this.#known.get(id);
  }

  /**
   * Take in a job as it was told. What is known never goes back.
   * @param {JobView} job
   */
  put(job) {
    const known = this.#known.get(job.job_id);
    if (known && rank(known) > rank(job)) return;
    if (this.#isNews(known, job)) this.ended.push(job);
    this.#known.set(job.job_id, withReceived(job, job.progress));
    this.#missing.delete(job.job_id);
  }

  /**
   * @param {string} id
   * @param {ProgressView} progress
   */
  updateProgress(id, progress) {
    const job = this.#known.get(id);
    if (job && !isFinal(job)) this.#known.set(id, withReceived(job, progress));
  }

  /**
   * Show only these; what else has ended is forgotten.
   * @param {Filter} filter
   */
  setFilter(filter) {
    this.filter = filter;
    this.#lists.clear();
    this.#forget(isFinal);
  }

  clear() {
    this.#lists.clear();
    this.#known.clear();
    this.#missing.clear();
    this.#readUntil = null;
    this.ended = [];
    this.hasMoreWaiting = false;
  }

  /**
   * Read everything anew.
   * @param {(id: string) => boolean} isLive whether the changes of a job are heard as they happen
   */
  async refresh(isLive) {
    if (this.#known.size > MOST_KNOWN) this.setFilter(this.filter);
    for (const status of UNFINISHED) await this.#readUnfinished(status, isLive);
    for (const status of this.#statuses) await this.#readEnded(status);
    const ends = this.#with(isFinal).map((job) => job.finished_at);
    this.#readUntil = latest([this.#readUntil ?? "", ...ends.map((end) => end ?? "")]);
  }

  /** Read one page further. */
  async readMore() {
    for (const status of this.#statuses) {
      const next = this.#lists.get(status)?.next;
      if (!next) continue;
      const page = await this.#page(status, next);
      page.data.forEach((job) => this.put(job));
      this.#lists.set(status, reached(page));
    }
  }

  /** @param {string} id */
  async cancel(id) {
    this.put(await read(this.#api, `jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" }));
  }

  get #statuses() {
    const { status } = this.filter;
    return FINAL.filter((each) => !status || each === status);
  }

  /**
   * @param {JobStatus} status
   * @param {(id: string) => boolean} isLive
   */
  async #readUnfinished(status, isLive) {
    const page = await this.#read(new URLSearchParams({ status, limit: `${MOST_UNFINISHED}` }));
    page.data.filter((job) => !isLive(job.job_id)).forEach((job) => this.put(job));
    if (status === "pending") this.hasMoreWaiting = page.has_more;
    // One that is not in its list any more has moved on.
    for (const job of this.#absent(status, page)) await this.#ask(job.job_id);
  }

  /** @param {JobStatus} status */
  async #readEnded(status) {
    const page = await this.#page(status);
    const list = this.#lists.get(status);
    const isNew = page.data.length > 0 && !page.data.some((job) => this.#known.has(job.job_id));
    const hasGap = page.has_more && isNew;
    if (list && hasGap) this.#forget((job) => job.status === status);
    if (!list || hasGap) this.#lists.set(status, reached(page));
    page.data.forEach((job) => this.put(job));
    for (const { job_id: id } of this.#absent(status, page)) {
      if (this.#missing.delete(id)) this.#known.delete(id);
      else this.#missing.add(id);
    }
  }

  /**
   * @param {JobStatus} status
   * @param {string} after
   * @returns {Promise<JobList>}
   */
  async #page(status, after = "") {
    const query = new URLSearchParams({ status, limit: `${PAGE}` });
    if (this.filter.workflow) query.set("workflow", this.filter.workflow);
    if (after) query.set("after", after);
    return this.#read(query);
  }

  /**
   * A page that may be short, but is empty only where there is nothing, or nothing for long.
   * @param {URLSearchParams} query
   * @returns {Promise<JobList>}
   */
  async #read(query) {
    /** @type {JobList} */
    let page = await read(this.#api, `jobs?${query}`);
    for (let turn = 0; page.next_cursor && !page.data.length && turn < MOST_EMPTY; turn++) {
      query.set("after", page.next_cursor);
      page = await read(this.#api, `jobs?${query}`);
    }
    return page;
  }

  /** @param {string} id */
  async #ask(id) {
    try {
      this.put(await read(this.#api, `jobs/${encodeURIComponent(id)}`));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      this.#known.delete(id);
    }
  }

  /**
   * Known jobs of a status that its first page should have and has not.
   * @param {JobStatus} status
   * @param {JobList} page
   */
  #absent(status, page) {
    // An empty page that is not the last tells of no job how it is.
    if (page.has_more && !page.data.length) return [];
    const listed = new Set(page.data.map((job) => job.job_id));
    const end = page.has_more ? reached(page).end : "";
    const { workflow } = this.filter;
    return this.#with(
      (job) =>
        job.status === status &&
        job.created_at > end &&
        !listed.has(job.job_id) &&
        !(isFinal(job) && workflow && job.workflow !== workflow),
    );
  }

  /**
   * Whether it is told here first that a job has ended. Short ones are seen only then.
   * @param {KnownJob | undefined} known
   * @param {JobView} job
   */
  #isNews(known, job) {
    if (!isFinal(job) || (known && isFinal(known))) return false;
    if (known) return true;
    return this.#readUntil !== null && (job.finished_at ?? "") > this.#readUntil;
  }

  /** Of jobs that were created before, some may not have been read. */
  #horizon() {
    const lists = this.#statuses.map((status) => this.#lists.get(status));
    return latest(lists.map((list) => (list?.next ? list.end : "")));
  }

  /** @param {(job: KnownJob) => unknown} claim */
  #with(claim) {
    return [...this.#known.values()].filter(claim);
  }

  /** @param {(job: KnownJob) => boolean} claim */
  #forget(claim) {
    this.#with(claim).forEach((job) => this.#known.delete(job.job_id));
  }
}

/**
 * Whether a record that cannot be read stands for it: nothing more is told of it, and its times may be wrong.
 * @param {JobView} job
 */
const isUnreadable = (job) => job.error_detail?.code === "unreadable_record";

/** @param {JobView} job */
export const isFinal = (job) => FINAL.includes(job.status) || isUnreadable(job);

/**
 * What stages there will be besides, nobody knows; the waiting ones are known.
 * @param {JobView} job
 */
const isAtWork = (job) =>
  job.status === "processing" && !isFinal(job) && !WAITING.includes(job.stage) && !job.progress.queue_position;

/**
 * Statuses only move forward.
 * @param {JobView} job
 */
const rank = (job) => (isFinal(job) ? 2 : UNFINISHED.indexOf(job.status));

/**
 * @param {JobView} job
 * @param {ProgressView} progress
 * @returns {KnownJob}
 */
const withReceived = (job, progress) => ({ ...job, progress: { ...progress, received: Date.now() } });

/** @param {JobList} page */
const reached = ({ next_cursor: next, data }) => {
  const last = data.findLast((job) => !isUnreadable(job)) ?? data.at(-1);
  return { next, end: last?.created_at ?? "" };
};

/** @param {string[]} moments */
const latest = (moments) => moments.sort().at(-1) ?? "";

/**
 * @template T
 * @param {(value: T) => string | number} key
 * @returns {(one: T, other: T) => number}
 */
const by = (key) => (one, other) => Number(key(one) > key(other)) - Number(key(one) < key(other));
