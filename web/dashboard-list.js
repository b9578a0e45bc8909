/** How a job is shown in each of the lists. */

import { isPicture, showThumbnail } from "./dashboard-pictures.js";
import { badge, hide, mark, part, say } from "./dashboard-rows.js";
import { about, ago, clock, duration, elapsed, plain, secondsBetween, secondsSince } from "./dashboard-words.js";

const COLOURS = { completed: "good", failed: "bad" };
/** Where a picture is, says nothing to a reader. */
const REFERENCE = /^(upload|data|s3|https?):/;

/** The word for a job's state, and its colour. */
export const badgeOf = (job) => [plain(job.stage ?? job.status), COLOURS[job.status] ?? ""];

export function fillRunning(row, { job, preview, isCancelling }) {
  const { percent, node, step, steps } = job.progress;
  fillCommon(row, job, isCancelling);
  say(part(row, "stage"), plain(job.stage ?? job.status));
  const bar = row.querySelector("progress");
  if (bar.value !== percent) bar.value = percent;
  mark(bar, "aria-label", `Progress of ${job.workflow}`);
  say(part(row, "percent"), `${percent} %`);
  say(part(row, "node"), [node, steps ? `step ${step} of ${steps}` : ""].filter(Boolean).join(", "));
  say(part(row, "age"), lasting(job.started_at ?? job.created_at, job));
  const image = part(row, "preview");
  if (preview && image.src !== preview) image.src = preview;
  hide(image, !preview);
}

export function fillWaiting(row, { job, isCancelling }) {
  const position = job.progress.queue_position;
  fillCommon(row, job, isCancelling);
  say(part(row, "position"), position ? `${position}` : "–");
  mark(part(row, "position"), "aria-label", position ? `Position ${position}` : "Position unknown");
  hide(part(row, "priority"), job.priority !== "high");
  say(part(row, "age"), lasting(job.created_at, job));
}

export function fillRecent(row, { job }) {
  fillCommon(row, job, false);
  badge(part(row, "status"), ...badgeOf(job));
  say(part(row, "age"), ago(job.created_at));
  mark(part(row, "age"), "title", `Created ${clock(job.created_at)}`);
  say(part(row, "duration"), spent(job));
  hide(part(row, "error"), !job.error);
  say(part(row, "sentence"), job.error ?? "");
  say(part(row, "code"), job.error_detail?.code ?? "");
  fillThumb(part(row, "thumb"), job);
}

/** What a job was asked for, in one line. */
export function excerpt(job) {
  const { prompt, ...others } = job.parameters;
  const rest = Object.entries(others)
    .filter(([, value]) => !REFERENCE.test(`${value}`))
    .map(([name, value]) => `${name} ${value}`);
  return [prompt, ...rest].filter(Boolean).join(" · ");
}

function fillCommon(row, job, isCancelling) {
  say(part(row, "open"), job.workflow);
  mark(part(row, "open"), "title", job.job_id);
  say(part(row, "excerpt"), excerpt(job));
  const cancel = part(row, "cancel");
  if (!cancel) return;
  cancel.disabled = isCancelling;
  say(cancel, isCancelling ? "Cancelling…" : "Cancel");
  mark(cancel, "aria-label", `Cancel ${job.workflow}, job ${job.job_id.slice(0, 8)}`);
}

function fillThumb(button, job) {
  const [first] = job.outputs;
  mark(button, "aria-label", `Details of ${job.workflow}, ${job.status}`);
  say(part(button, "kind"), first ? first.content_type.split("/")[1].slice(0, 4) : "–");
  button.classList.toggle("several", job.outputs.length > 1);
  mark(button, "data-count", job.outputs.length > 1 ? `${job.outputs.length}` : null);
  if (isPicture(first)) showThumbnail(button.querySelector("img"), job);
}

/** How long the run was; of a job without one, how long it was there. */
function spent({ timings, created_at: created, finished_at: finished }) {
  return timings.run_ms === null
    ? `${duration(secondsBetween(created, finished))} in all`
    : `ran ${duration(timings.run_ms / 1000)}`;
}

/** "for 12 s, about 25 s left" */
function lasting(moment, job) {
  const { eta_seconds: eta, heard } = job.progress;
  const begun = `for ${elapsed(secondsSince(moment))}`;
  return Number.isFinite(eta) ? `${begun}, ${about(eta - (Date.now() - heard) / 1000)} left` : begun;
}
