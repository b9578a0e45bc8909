/** Hears of running jobs as they change: of few, since a browser opens few connections. */

import { events } from "./api.js";
import { isFinal } from "./dashboard-jobs.js";

const MOST = 2;
/** After a stream that ended too early, or was refused; meanwhile the lists tell. */
const REST_MS = 10_000;
/** One who has been silent for so long may be gone. */
const FRESH_MS = 5000;

export class Live {
  #streams = new Map();
  #restUntil = 0;
  #hear;

  /** `hear(id, event)` is told each event of a job that is followed. */
  constructor(hear) {
    this.#hear = hear;
  }

  /** Whether a job's changes are heard, so that older news of it do not count. */
  hears(id) {
    const stream = this.#streams.get(id);
    return stream !== undefined && Date.now() - stream.heard < FRESH_MS;
  }

  /** Follow the first of these jobs and no others. */
  follow(ids) {
    for (const [id, stream] of this.#streams) if (!ids.includes(id)) stream.control.abort();
    if (Date.now() < this.#restUntil) return;
    for (const id of ids) if (this.#streams.size < MOST && !this.#streams.has(id)) this.#listen(id);
  }

  async #listen(id) {
    const stream = { control: new AbortController(), heard: 0, isOver: false };
    this.#streams.set(id, stream);
    const path = `jobs/${encodeURIComponent(id)}/events?previews=true`;
    try {
      for await (const event of events(path, stream.control.signal)) {
        stream.heard = Date.now();
        stream.isOver ||= event.name === "status" && isFinal(event.data);
        this.#hear(id, event);
      }
    } catch {
      // Why does not matter: the lists go on, and say it if all is refused.
    }
    this.#streams.delete(id);
    if (!stream.isOver && !stream.control.signal.aborted) this.#restUntil = Date.now() + REST_MS;
  }
}
