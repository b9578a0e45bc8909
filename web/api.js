/** Asks the API that this page belongs to, with the key of this tab. */

const KEY = "unified-api-key";
const SENDABLE = /^[\x21-\x7e]+$/;

/** Where the API is: the folder of this page, whatever prefix a proxy has put before it. */
export const API = new URL(".", document.baseURI);
/** Where the paths that the API tells begin, without a slash at the end. */
export const ROOT = API.href.replace(/\/api\/v1\/$/, "");

export const FINAL = ["completed", "failed", "cancelled"];

let remembered = recall();

export const getKey = () => remembered;

/** Keep a key for as long as the tab is open; "" forgets it. */
export function setKey(text) {
  const key = text.trim();
  remembered = SENDABLE.test(key) ? key : "";
  try {
    sessionStorage.setItem(KEY, remembered);
  } catch {
    // Storage may be forbidden: then the key lasts until the page is left.
  }
}

function recall() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** fetch() with the key. `path` is relative to the API ("jobs?limit=5"), or a whole URL of it. */
export function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (remembered) headers.set("Authorization", `Bearer ${remembered}`);
  return fetch(new URL(path, API), { ...options, headers });
}

/** What an answer says that is not ok, in one sentence. */
export async function refusal(reply) {
  const problem = await reply.json().catch(() => null);
  return problem?.detail ?? `The server answered ${reply.status} ${reply.statusText}.`;
}

/** The server-sent events at a path: {name, data}, where data is parsed. Ends with the stream. */
export async function* events(path, signal) {
  const reply = await ask(path, { signal, cache: "no-store" });
  if (!reply.ok || !reply.body) throw new Error(await refusal(reply));
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      yield* frames.map(parsed).filter(Boolean);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(frame) {
  const fields = Object.fromEntries(
    frame.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")]),
  );
  return fields.data ? { name: fields.event ?? "message", data: JSON.parse(fields.data) } : null;
}

/**
 * An address at which <img> finds an output of a job. A result that lies on this server is loaded
 * here, since <img> sends no key; URL.revokeObjectURL takes its address when it is shown no more.
 */
export async function pictureOf(job, number) {
  const { url } = job.outputs[number];
  const local = `jobs/${job.job_id}/outputs/${number}`;
  if (!url.endsWith(`/api/v1/${local}`)) return url;
  const reply = await ask(local);
  if (!reply.ok) throw new Error(await refusal(reply));
  return URL.createObjectURL(await reply.blob());
}
