/** What this page knows of the jobs, and how it learns more. */

import { FINAL, ask, refusal } from "./api.js";

const PAGE = 25;
const MOST_UNFINISHED = 100;
/** A page that is open for days begins anew when it knows so many. */
const MOST_KNOWN = 1000;
/** Jobs have these one after another: asked in this order, none slips through unseen. */
const UNFINISHED = ["pending", "processing"];
const WAITING = ["queued", "fetching_inputs"];

/** An answer that is no data. Status 0: there was none at all. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function read(path, options) {
  const reply = await answer(path, { cache: "no-store", ...options });
  if (!reply.ok) throw new Refused(await refusal(reply), reply.status);
  return reply.json();
}

/** Whatever the server answers. */
export async function answer(path, options) {
  try {
    return await ask(path, options);
  } catch {
    throw new Refused("The server does not answer. Trying again…", 0);
  }
}

export class Jobs {
  filter = { status: "", workflow: "" };
  /** Whether more jobs wait than are known. */
  hasMoreWaiting = false;
  /** What was seen to end, for whoever takes it from here. */
  ended = [];
  #known = new Map();
  /** Status -> how far its list was read. */
  #lists = new Map();
  /** What was missing where it should have been listed: a list may lag behind. */
  #missing = new Set();
  /** When the last job that was read before had ended; null before anything was read. */
  #readUntil = null;

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

  find(id) {
    return this.#known.get(id);
  }

  /** Take in a job as it was told. What is known never goes back. */
  put(job) {
    const known = this.#known.get(job.job_id);
    if (known && rank(known) > rank(job)) return;
    if (this.#isNews(known, job)) this.ended.push(job);
    this.#known.set(job.job_id, heard(job, job.progress));
    this.#missing.delete(job.job_id);
  }

  move(id, progress) {
    const job = this.#known.get(id);
    if (job && !isFinal(job)) this.#known.set(id, heard(job, progress));
  }

  /** Show only these; what else has ended is forgotten. */
  choose(filter) {
    this.filter = filter;
    this.#lists.clear();
    this.#forget(isFinal);
  }

  forget() {
    this.#lists.clear();
    this.#known.clear();
  }

  /** Read everything anew. `isTold` says of a job whether its changes are heard as they happen. */
  async refresh(isTold) {
    if (this.#known.size > MOST_KNOWN) this.choose(this.filter);
    for (const status of UNFINISHED) await this.#readUnfinished(status, isTold);
    for (const status of this.#statuses) await this.#readEnded(status);
    const ends = this.#with(isFinal).map((job) => job.finished_at);
    this.#readUntil = [this.#readUntil ?? "", ...ends].sort().at(-1);
  }

  /** Read one page further. */
  async readMore() {
    const lists = this.#statuses.filter((status) => this.#lists.get(status)?.next);
    for (const status of lists) {
      const page = await this.#page(status, this.#lists.get(status).next);
      page.data.forEach((job) => this.put(job));
      this.#lists.set(status, reached(page));
    }
  }

  async cancel(id) {
    this.put(await read(`jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" }));
  }

  get #statuses() {
    return this.filter.status ? [this.filter.status] : FINAL;
  }

  async #readUnfinished(status, isTold) {
    const page = await read(`jobs?${new URLSearchParams({ status, limit: MOST_UNFINISHED })}`);
    page.data.filter((job) => !isTold(job.job_id)).forEach((job) => this.put(job));
    if (status === "pending") this.hasMoreWaiting = page.has_more;
    // One that is not in its list any more has moved on.
    for (const job of this.#absent(status, page)) await this.#ask(job.job_id);
  }

  async #readEnded(status) {
    const page = await this.#page(status);
    const list = this.#lists.get(status);
    const hasGap = page.has_more && !page.data.some((job) => this.#known.has(job.job_id));
    if (list && hasGap) this.#forget((job) => job.status === status);
    if (!list || hasGap) this.#lists.set(status, reached(page));
    page.data.forEach((job) => this.put(job));
    for (const { job_id: id } of this.#absent(status, page)) {
      if (this.#missing.delete(id)) this.#known.delete(id);
      else this.#missing.add(id);
    }
  }

  #page(status, after) {
    const query = new URLSearchParams({ status, limit: PAGE });
    if (this.filter.workflow) query.set("workflow", this.filter.workflow);
    if (after) query.set("after", after);
    return read(`jobs?${query}`);
  }

  async #ask(id) {
    try {
      this.put(await read(`jobs/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#known.delete(id);
    }
  }

  /** Known jobs of a status that its first page should have and has not. */
  #absent(status, page) {
    const listed = new Set(page.data.map((job) => job.job_id));
    const end = page.has_more ? page.data.at(-1).created_at : "";
    const { workflow } = this.filter;
    return this.#with(
      (job) =>
        job.status === status &&
        job.created_at > end &&
        !listed.has(job.job_id) &&
        !(isFinal(job) && workflow && job.workflow !== workflow),
    );
  }

  /** Whether it is told here first that a job has ended. Short ones are seen only then. */
  #isNews(known, job) {
    if (!isFinal(job) || (known && isFinal(known))) return false;
    return known !== undefined || (this.#readUntil !== null && job.finished_at > this.#readUntil);
  }

  /** Of jobs that were created before, some may not have been read. */
  #horizon() {
    const lists = this.#statuses.map((status) => this.#lists.get(status));
    const ends = lists.filter((list) => list?.next).map((list) => list.end);
    return ends.sort().at(-1) ?? "";
  }

  #with(claim) {
    return [...this.#known.values()].filter(claim);
  }

  #forget(claim) {
    this.#with(claim).forEach((job) => this.#known.delete(job.job_id));
  }
}

export const isFinal = (job) => FINAL.includes(job.status);

/** What stages there will be besides, nobody knows; the waiting ones are known. */
const isAtWork = (job) =>
  job.status === "processing" && !WAITING.includes(job.stage) && !job.progress.queue_position;

/** Statuses only move forward. */
const rank = (job) => (isFinal(job) ? 2 : UNFINISHED.indexOf(job.status));

/** A job with its progress, and when that was heard. */
const heard = (job, progress) => ({ ...job, progress: { ...progress, heard: Date.now() } });

const reached = (page) => ({ next: page.next_cursor, end: page.data.at(-1)?.created_at ?? "" });

const by = (value) => (one, other) => Number(value(one) > value(other)) - Number(value(one) < value(other));
