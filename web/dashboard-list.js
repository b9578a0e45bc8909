/** How a job is shown in each of the lists. */

import { isPicture } from "./dashboard-pictures.js";
import { badge, hide, mark, say } from "./dashboard-rows.js";
import { about, ago, clock, duration, elapsed, plain, secondsBetween, secondsSince } from "./dashboard-words.js";
import { part } from "./dom.js";

/** @import { KnownJob } from "./dashboard-jobs.js" */
/** @import { Thumbnails } from "./dashboard-pictures.js" */

/**
 * What a row shows.
 * @typedef {{ id: string, job: KnownJob, preview?: string, isCancelling: boolean }} Shown
 */

/** @type {Partial<Record<JobStatus, string>>} */
const COLOURS = { completed: "good", failed: "bad" };
/** Where a picture is, says nothing to a reader. */
const REFERENCE = /^(upload|data|s3|https?):/;

/**
 * The word for a job's state, and its colour.
 * @param {JobView} job
 * @returns {[string, string]}
 */
export const badgeOf = (job) => [plain(job.stage ?? job.status), COLOURS[job.status] ?? ""];

/**
 * @param {HTMLElement} row
 * @param {Shown} shown
 */
export function fillRunning(row, { job, preview, isCancelling }) {
  const { percent, node, step, steps } = job.progress;
  fillCommon(row, job);
  fillCancel(row, job, isCancelling);
  say(part(row, "stage"), plain(job.stage ?? job.status));
  const bar = part(row, "progress", HTMLProgressElement);
  if (bar.value !== percent) bar.value = percent;
  mark(bar, "aria-label", `Progress of ${job.workflow}`);
  say(part(row, "percent"), `${percent} %`);
  say(part(row, "node"), [node, steps ? `step ${step} of ${steps}` : ""].filter(Boolean).join(", "));
  say(part(row, "age"), lasting(job.started_at ?? job.created_at, job));
  const image = part(row, "preview", HTMLImageElement);
  if (preview && image.src !== preview) image.src = preview;
  hide(image, !preview);
}

/**
 * @param {HTMLElement} row
 * @param {Shown} shown
 */
export function fillWaiting(row, { job, isCancelling }) {
  const position = job.progress.queue_position;
  fillCommon(row, job);
  fillCancel(row, job, isCancelling);
  say(part(row, "position"), position ? `${position}` : "–");
  mark(part(row, "position"), "aria-label", position ? `Position ${position}` : "Position unknown");
  hide(part(row, "priority"), job.priority !== "high");
  say(part(row, "age"), lasting(job.created_at, job));
}

/**
 * @param {HTMLElement} row
 * @param {Shown} shown
 * @param {Thumbnails} thumbnails
 */
export function fillRecent(row, { job }, thumbnails) {
  fillCommon(row, job);
  badge(part(row, "status"), ...badgeOf(job));
  say(part(row, "age"), ago(job.created_at));
  mark(part(row, "age"), "title", `Created ${clock(job.created_at)}`);
  say(part(row, "duration"), spent(job));
  hide(part(row, "error"), !job.error);
  say(part(row, "sentence"), job.error ?? "");
  say(part(row, "code"), job.error_detail?.code ?? "");
  fillThumb(part(row, "thumb"), job, thumbnails);
}

/**
 * What a job was asked for, in one line.
 * @param {JobView} job
 */
function excerpt(job) {
  const { prompt, ...others } = job.parameters;
  const rest = Object.entries(others)
    .filter(([, value]) => !REFERENCE.test(`${value}`))
    .map(([name, value]) => `${name} ${value}`);
  return [prompt, ...rest].filter(Boolean).join(" · ");
}

/**
 * @param {HTMLElement} row
 * @param {JobView} job
 */
function fillCommon(row, job) {
  say(part(row, "open"), job.workflow);
  mark(part(row, "open"), "title", job.job_id);
  say(part(row, "excerpt"), excerpt(job));
}

/**
 * @param {HTMLElement} row
 * @param {JobView} job
 * @param {boolean} isCancelling
 */
function fillCancel(row, job, isCancelling) {
  const button = part(row, "cancel", HTMLButtonElement);
  button.disabled = isCancelling;
  say(button, isCancelling ? "Cancelling…" : "Cancel");
  mark(button, "aria-label", `Cancel ${job.workflow}, job ${job.job_id.slice(0, 8)}`);
}

/**
 * @param {HTMLElement} button
 * @param {JobView} job
 * @param {Thumbnails} thumbnails
 */
function fillThumb(button, job, thumbnails) {
  const [first] = job.outputs;
  const kind = first?.content_type.split("/")[1];
  mark(button, "aria-label", `Details of ${job.workflow}, ${job.status}`);
  say(part(button, "kind"), kind?.slice(0, 4) ?? "–");
  button.classList.toggle("several", job.outputs.length > 1);
  mark(button, "data-count", job.outputs.length > 1 ? `${job.outputs.length}` : null);
  if (isPicture(first)) thumbnails.show(part(button, "thumbnail", HTMLImageElement), job);
}

/**
 * How long the run was; of a job without one, how long it was there.
 * @param {JobView} job
 */
function spent({ timings, created_at: created, finished_at: finished }) {
  return timings.run_ms === null
    ? `${duration(secondsBetween(created, finished ?? created))} in all`
    : `ran ${duration(timings.run_ms / 1000)}`;
}

/**
 * "for 12 s, about 25 s left"
 * @param {string} moment
 * @param {KnownJob} job
 */
function lasting(moment, job) {
  const { eta_seconds: eta, received } = job.progress;
  const begun = `for ${elapsed(secondsSince(moment))}`;
  if (eta === null || eta === undefined) return begun;
  return `${begun}, ${about(eta - (Date.now() - received) / 1000)} left`;
}
