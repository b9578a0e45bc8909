/** All of one job, in a window above the page. */

import { pictureOf } from "./api.js";
import { badgeOf } from "./dashboard-list.js";
import { addressOf, isPicture } from "./dashboard-pictures.js";
import { clock, duration, plain } from "./dashboard-words.js";
import { byId, make } from "./dom.js";
import { bytes } from "./size.js";

const TIMINGS = { queued_ms: "waited", inputs_ms: "inputs", run_ms: "run", publish_ms: "publishing" };

const dialog = byId("details");
let shown = null;
let addresses = [];

dialog.addEventListener("close", () => {
  shown = null;
  addresses.forEach((address) => URL.revokeObjectURL(address));
  addresses = [];
  dialog.replaceChildren();
});
// A click beside the window closes it.
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

/** Open the window on a job. */
export function openDetails(job) {
  fill(job);
  dialog.showModal();
}

/** Show in it what has become of its job; `find(id)` knows. */
export function updateDetails(find) {
  const job = shown && find(shown.job_id);
  if (job && job.status !== shown.status) fill(job);
}

function fill(job) {
  shown = job;
  const [word, colour] = badgeOf(job);
  dialog.replaceChildren(
    make(
      "header",
      { className: "line" },
      make("h2", { id: "details-title" }, job.workflow),
      make("span", { className: `badge ${colour}` }, word),
      make("button", { type: "button", className: "close", onclick: () => dialog.close() }, "Close"),
    ),
    make(
      "div",
      { className: "inner" },
      job.error ? make("p", { className: "note bad" }, job.error, " ", make("code", {}, job.error_detail?.code ?? "")) : null,
      job.outputs.map((output, number) => picture(job, output, number)),
      pairs("Job", facts(job)),
      pairs("Parameters", job.parameters),
      pairs("Metadata", job.metadata),
    ),
  );
}

function picture(job, output, number) {
  const image = isPicture(output) ? make("img", { alt: output.name, width: output.width, height: output.height }) : null;
  if (image) load(image, job, number);
  const size = output.width ? `${output.width} × ${output.height}, ` : "";
  return make(
    "figure",
    {},
    image,
    make(
      "figcaption",
      { className: "line" },
      make("span", {}, output.name),
      make("span", { className: "quiet" }, `${output.content_type}, ${size}${bytes(output.size)}`),
      make("button", { type: "button", onclick: () => save(job, number) }, "Open"),
    ),
  );
}

/** The small picture first, which is there at once; then the whole one, if the page may show it. */
function load(image, job, number) {
  const small = number === 0 ? addressOf(job).catch(() => null) : Promise.resolve(null);
  small.then((address) => {
    if (address && !image.src) image.src = address;
  });
  whole(job, number).then(
    (address) => {
      image.onerror = () => small.then((smaller) => smaller && (image.src = smaller));
      image.src = address;
    },
    () => {},
  );
}

async function save(job, number) {
  const address = await whole(job, number);
  const ending = job.outputs[number].content_type.split("/")[1];
  const isHere = address.startsWith("blob:");
  make("a", {
    href: address,
    target: "_blank",
    rel: "noreferrer",
    download: isHere ? `${job.job_id}-${number}.${ending}` : null,
  }).click();
}

async function whole(job, number) {
  const address = await pictureOf(job, number);
  addresses.push(address);
  return address;
}

function facts(job) {
  const spent = Object.entries(job.timings)
    .filter(([, milliseconds]) => milliseconds !== null)
    .map(([name, milliseconds]) => `${TIMINGS[name] ?? plain(name)} ${duration(milliseconds / 1000)}`);
  return {
    id: job.job_id,
    created: clock(job.created_at),
    started: clock(job.started_at),
    finished: clock(job.finished_at),
    deadline: clock(job.deadline),
    times: spent.join(", "),
    attempt: job.attempt > 1 ? job.attempt : "",
    priority: job.priority === "high" ? "high" : "",
  };
}

function pairs(title, values) {
  const told = Object.entries(values ?? {}).filter(([, value]) => value !== "" && value !== null);
  if (told.length === 0) return null;
  return make(
    "section",
    {},
    make("h3", {}, title),
    make("dl", {}, told.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, `${value}`)])),
  );
}
