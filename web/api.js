/** Asks the API that this page belongs to, with the key of this tab. */

const STORAGE_ITEM = "unified-api-key";
const SENDABLE = /^[\x21-\x7e]+$/;

/** Where the API is: the folder of this page, whatever prefix a proxy has put before it. */
export const API = new URL(".", document.baseURI);
/** Where the paths that the API names begin, without a slash at the end. */
export const ROOT = API.href.replace(/\/api\/v1\/$/, "");

/** @type {JobStatus[]} */
export const FINAL = ["completed", "failed", "cancelled"];

export class Api {
  #key = storedKey();
  #session = new AbortController();

  get key() {
    return this.#key;
  }

  /** Aborted when the present key is forgotten or replaced; the next key has a signal of its own. */
  get session() {
    return this.#session.signal;
  }

  /**
   * Keep a key for as long as the tab is open; "" forgets it. Requests with a former key are aborted.
   * @param {string} text
   */
  setKey(text) {
    const former = this.#key;
    const key = text.trim();
    this.#key = SENDABLE.test(key) ? key : "";
    storeKey(this.#key);
    if (former && former !== this.#key) this.#endSession();
  }

  #endSession() {
    const ended = this.#session;
    this.#session = new AbortController();
    ended.abort();
  }

  /**
   * fetch() with the key. `path` is relative to the API ("jobs?limit=5"), or a whole URL of it.
   * @param {string} path
   * @param {RequestInit} options
   */
  ask(path, options = {}) {
    const headers = new Headers(options.headers);
    if (this.#key) headers.set("Authorization", `Bearer ${this.#key}`);
    const signals = [this.session, options.signal].filter((signal) => signal instanceof AbortSignal);
    return fetch(new URL(path, API), { ...options, headers, signal: AbortSignal.any(signals) });
  }

  /**
   * The server-sent events at a path, parsed. Ends with the stream.
   * @param {string} path
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<JobEvent, void>}
   */
  async *events(path, signal) {
    const reply = await this.ask(path, { signal, cache: "no-store" });
    if (!reply.ok || !reply.body) throw new Error(await refusal(reply));
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const frames = (rest + value).split("\n\n");
        rest = frames.pop() ?? "";
        yield* frames.map(parsed).filter((event) => event !== null);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }
}

function storedKey() {
  try {
    return sessionStorage.getItem(STORAGE_ITEM) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} key */
function storeKey(key) {
  try {
    sessionStorage.setItem(STORAGE_ITEM, key);
  } catch {
    // Storage may be forbidden: then the key lasts until the page is left.
  }
}

/**
 * What an answer says that is not ok, in one sentence.
 * @param {Response} reply
 */
export async function refusal(reply) {
  /** @type {Problem | null} */
  const problem = await reply.json().catch(() => null);
  return problem?.detail ?? `The server answered ${reply.status} ${reply.statusText}.`;
}

/** @param {unknown} error */
export const isAborted = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * @param {string} frame
 * @returns {JobEvent | null}
 */
function parsed(frame) {
  const fields = Object.fromEntries(
    frame.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")]),
  );
  return fields.data ? { name: fields.event ?? "message", data: JSON.parse(fields.data) } : null;
}

/**
 * A blob URL of what a reply carries. It is revoked when `signal` is aborted, and not made after.
 * @param {Response} reply
 * @param {AbortSignal} signal
 */
export async function blobUrl(reply, signal) {
  const blob = await reply.blob();
  signal.throwIfAborted();
  const url = URL.createObjectURL(blob);
  signal.addEventListener("abort", () => URL.revokeObjectURL(url), { once: true });
  return url;
}

/**
 * A URL at which <img> finds an output of a job, until `signal` is aborted. A result on this server
 * is loaded here, since <img> sends no key.
 * @param {Api} api
 * @param {JobView} job
 * @param {number} number
 * @param {AbortSignal} signal
 */
export async function outputUrl(api, job, number, signal) {
  const url = job.outputs[number]?.url ?? "";
  const local = `jobs/${job.job_id}/outputs/${number}`;
  if (!url.endsWith(`/api/v1/${local}`)) return url;
  const reply = await api.ask(local, { signal });
  if (!reply.ok) throw new Error(await refusal(reply));
  return blobUrl(reply, signal);
}
