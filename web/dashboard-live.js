/** Hears of running jobs as they change: of few, since a browser opens few connections. */

import { isFinal } from "./dashboard-jobs.js";

/** @import { Api } from "./api.js" */

const MOST = 2;
/** After a stream that ended too early, or was refused; meanwhile the lists tell. */
const BACKOFF_MS = 10_000;
/** A stream that has been silent for so long may be gone. */
const FRESH_MS = 5000;

export class Live {
  #api;
  #onEvent;
  /** @type {Map<string, { control: AbortController, heardAt: number, isOver: boolean }>} */
  #streams = new Map();
  #pausedUntil = 0;

  /**
   * `onEvent(id, event)` is called with each event of a job that is followed.
   * @param {Api} api
   * @param {(id: string, event: JobEvent) => void} onEvent
   */
  constructor(api, onEvent) {
    this.#api = api;
    this.#onEvent = onEvent;
  }

  /**
   * Whether the changes of a job are heard, so that older news of it do not count.
   * @param {string} id
   */
  isLive(id) {
    const stream = this.#streams.get(id);
    return stream !== undefined && Date.now() - stream.heardAt < FRESH_MS;
  }

  /**
   * Follow the first of these jobs and no others.
   * @param {string[]} ids
   */
  follow(ids) {
    for (const [id, stream] of this.#streams) if (!ids.includes(id)) stream.control.abort();
    if (Date.now() < this.#pausedUntil) return;
    for (const id of ids) if (this.#streams.size < MOST && !this.#streams.has(id)) this.#listen(id);
  }

  /** @param {string} id */
  async #listen(id) {
    const stream = { control: new AbortController(), heardAt: 0, isOver: false };
    this.#streams.set(id, stream);
    const path = `jobs/${encodeURIComponent(id)}/events?previews=true`;
    try {
      for await (const event of this.#api.events(path, stream.control.signal)) {
        stream.heardAt = Date.now();
        stream.isOver ||= event.name === "status" && isFinal(event.data);
        this.#onEvent(id, event);
      }
    } catch {
      // Why does not matter: the lists go on, and say it if all is refused.
    }
    this.#streams.delete(id);
    if (!stream.isOver && !stream.control.signal.aborted) this.#pausedUntil = Date.now() + BACKOFF_MS;
  }
}
