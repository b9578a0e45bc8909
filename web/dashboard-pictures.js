/** The small pictures of results: loaded a few at a time, each once. */

import { ask } from "./api.js";

const AT_ONCE = 2;
const RETRY_MS = 15_000;

const addresses = new Map();
const line = [];
let busy = 0;

export const isPicture = (output) => Boolean(output?.content_type.startsWith("image/") && output.width);

/** Show a job's first result in an image element, once it is there. */
export function showThumbnail(image, job) {
  if (image.dataset.job === job.job_id) return;
  image.dataset.job = job.job_id;
  addressOf(job).then(
    (address) => {
      image.src = address;
      image.hidden = false;
    },
    () => setTimeout(() => delete image.dataset.job, RETRY_MS),
  );
}

/** An address of a job's first result as a small picture. */
export function addressOf(job) {
  if (!addresses.has(job.job_id)) {
    const loading = inLine(() => load(job));
    loading.catch(() => addresses.delete(job.job_id));
    addresses.set(job.job_id, loading);
  }
  return addresses.get(job.job_id);
}

async function load(job) {
  const path = `jobs/${encodeURIComponent(job.job_id)}/outputs/0/thumbnail`;
  const reply = await ask(path, { redirect: "manual" });
  // An orchestrator makes none; its results are public.
  if (reply.type === "opaqueredirect") return job.outputs[0].url;
  if (!reply.ok) throw new Error(`${reply.status}`);
  return URL.createObjectURL(await reply.blob());
}

function inLine(work) {
  return new Promise((resolve, reject) => {
    line.push(() => work().then(resolve, reject));
    next();
  });
}

function next() {
  if (busy >= AT_ONCE || line.length === 0) return;
  busy += 1;
  line.shift()().finally(() => {
    busy -= 1;
    next();
  });
}
