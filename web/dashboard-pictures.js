/** The thumbnails of results: loaded a few at a time, each once, and kept while their jobs are. */

import { blobUrl } from "./api.js";

/** @import { Api } from "./api.js" */

const AT_ONCE = 2;
const RETRY_MS = 15_000;

/**
 * Whether an image element can show an output.
 * @param {OutputView | undefined} output
 */
export const isPicture = (output) =>
  Boolean(output?.content_type.startsWith("image/") && output.width);

export class Thumbnails {
  #api;
  /**
   * Id of a job -> its thumbnail, whose URL is revoked by `control`.
   * @type {Map<string, { control: AbortController, url: Promise<string> }>}
   */
  #loaded = new Map();
  /** @type {(() => Promise<void>)[]} */
  #queue = [];
  #active = 0;

  /** @param {Api} api */
  constructor(api) {
    this.#api = api;
  }

  /**
   * Show the first result of a job in an image element, once it is there.
   * @param {HTMLImageElement} image
   * @param {JobView} job
   */
  show(image, job) {
    if (image.dataset.job === job.job_id) return;
    image.dataset.job = job.job_id;
    this.url(job).then(
      (url) => {
        image.src = url;
        image.hidden = false;
      },
      () => setTimeout(() => delete image.dataset.job, RETRY_MS),
    );
  }

  /**
   * A URL of the first result of a job as a thumbnail.
   * @param {JobView} job
   */
  url(job) {
    const known = this.#loaded.get(job.job_id);
    if (known) return known.url;
    const control = new AbortController();
    const url = this.#enqueue(() => this.#load(job, control.signal));
    this.#loaded.set(job.job_id, { control, url });
    // One that was aborted may have a successor already.
    url.catch(() => control.signal.aborted || this.#loaded.delete(job.job_id));
    return url;
  }

  /**
   * Revoke the thumbnails of all jobs but these.
   * @param {Set<string>} ids
   */
  keepOnly(ids) {
    for (const [id, { control }] of this.#loaded) {
      if (ids.has(id)) continue;
      control.abort();
      this.#loaded.delete(id);
    }
  }

  /**
   * @param {JobView} job
   * @param {AbortSignal} signal
   */
  async #load(job, signal) {
    const path = `jobs/${encodeURIComponent(job.job_id)}/outputs/0/thumbnail`;
    const reply = await this.#api.ask(path, { redirect: "manual", signal });
    // An orchestrator makes none; its results are public.
    if (reply.type === "opaqueredirect") return job.outputs[0]?.url ?? "";
    if (!reply.ok) throw new Error(`${reply.status}`);
    return blobUrl(reply, signal);
  }

  /**
   * @param {() => Promise<string>} load
   * @returns {Promise<string>}
   */
  #enqueue(load) {
    return new Promise((resolve, reject) => {
      this.#queue.push(() => load().then(resolve, reject));
      this.#next();
    });
  }

  #next() {
    if (this.#active >= AT_ONCE) return;
    const load = this.#queue.shift();
    if (!load) return;
    this.#active += 1;
    load().finally(() => {
      this.#active -= 1;
      this.#next();
    });
  }
}
