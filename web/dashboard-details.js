/** All of one job, in a dialog above the page. */

import { isAborted, outputUrl } from "./api.js";
import { badgeOf } from "./dashboard-list.js";
import { isPicture } from "./dashboard-pictures.js";
import { clock, duration, plain } from "./dashboard-words.js";
import { byId, make } from "./dom.js";
import { bytes } from "./size.js";

/** @import { Api } from "./api.js" */
/** @import { Thumbnails } from "./dashboard-pictures.js" */

/** @type {Record<string, string>} */
const TIMINGS = { queued_ms: "waited", inputs_ms: "inputs", run_ms: "run", publish_ms: "publishing" };

export class JobDialog {
  #api;
  #thumbnails;
  #dialog = byId("details", HTMLDialogElement);
  /** @type {JobView | null} */
  #job = null;
  /** Aborted when what is shown now is shown no more, which revokes the URLs of its images. */
  #shown = new AbortController();

  /**
   * @param {Api} api
   * @param {Thumbnails} thumbnails
   */
  constructor(api, thumbnails) {
    this.#api = api;
    this.#thumbnails = thumbnails;
    // The event comes late: by then the dialog may show another job.
    this.#dialog.addEventListener("close", () => this.#dialog.open || this.#clear());
    // A click beside the dialog closes it.
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.close());
  }

  /** The id of the job that is shown. */
  get jobId() {
    return this.#job?.job_id;
  }

  /** @param {JobView} job */
  open(job) {
    this.#fill(job);
    this.#dialog.showModal();
  }

  /**
   * Show what has become of the job.
   * @param {JobView | undefined} job
   */
  update(job) {
    if (job && job.status !== this.#job?.status) this.#fill(job);
  }

  close() {
    this.#dialog.close();
    this.#clear();
  }

  #clear() {
    this.#job = null;
    this.#shown.abort();
    this.#dialog.replaceChildren();
  }

  /** @param {JobView} job */
  #fill(job) {
    this.#shown.abort();
    this.#shown = new AbortController();
    this.#job = job;
    const [word, colour] = badgeOf(job);
    const header = make(
      "header",
      { className: "line" },
      make("h2", { id: "details-title" }, job.workflow),
      make("span", { className: `badge ${colour}` }, word),
      make("button", { type: "button", className: "close", onclick: () => this.close() }, "Close"),
    );
    const inner = make(
      "div",
      { className: "inner" },
      errorOf(job),
      job.outputs.map((output, number) => this.#figure(job, output, number)),
      pairs("Job", facts(job)),
      pairs("Parameters", job.parameters),
      pairs("Metadata", job.metadata),
    );
    this.#dialog.replaceChildren(header, inner);
  }

  /**
   * @param {JobView} job
   * @param {OutputView} output
   * @param {number} number
   */
  #figure(job, output, number) {
    const { name, width, height } = output;
    const image = isPicture(output) ? make("img", { alt: name, width, height }) : null;
    if (image) this.#load(image, job, number);
    const size = width ? `${width} × ${height}, ` : "";
    const caption = make(
      "figcaption",
      { className: "line" },
      make("span", {}, name),
      make("span", { className: "quiet" }, `${output.content_type}, ${size}${bytes(output.size)}`),
      make("button", { type: "button", onclick: () => this.#save(job, number) }, "Open"),
    );
    return make("figure", {}, image, caption);
  }

  /**
   * The thumbnail first, which is there at once; then the whole image, if the page may show it.
   * @param {HTMLImageElement} image
   * @param {JobView} job
   * @param {number} number
   */
  #load(image, job, number) {
    const { signal } = this.#shown;
    const thumbnail = number === 0 ? this.#thumbnails.url(job).catch(() => "") : Promise.resolve("");
    /** @param {string} url */
    const put = (url) => {
      if (url && !signal.aborted) image.src = url;
    };
    thumbnail.then((url) => image.src || put(url));
    outputUrl(this.#api, job, number, signal).then(
      (url) => {
        image.addEventListener("error", () => thumbnail.then(put), { once: true });
        put(url);
      },
      () => {},
    );
  }

  /**
   * @param {JobView} job
   * @param {number} number
   */
  async #save(job, number) {
    try {
      const url = await outputUrl(this.#api, job, number, this.#shown.signal);
      const ending = job.outputs[number]?.content_type.split("/")[1];
      const download = url.startsWith("blob:") ? `${job.job_id}-${number}.${ending}` : null;
      make("a", { href: url, target: "_blank", rel: "noreferrer", download }).click();
    } catch (error) {
      if (!isAborted(error)) throw error;
    }
  }
}

/** @param {JobView} job */
function errorOf(job) {
  if (!job.error) return null;
  const code = make("code", {}, job.error_detail?.code ?? "");
  return make("p", { className: "note bad" }, job.error, " ", code);
}

/** @param {JobView} job */
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

/**
 * @param {string} title
 * @param {Record<string, unknown> | null} values
 */
function pairs(title, values) {
  const told = Object.entries(values ?? {}).filter(([, value]) => value !== "" && value !== null);
  if (told.length === 0) return null;
  const rows = told.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, `${value}`)]);
  return make("section", {}, make("h3", {}, title), make("dl", {}, rows));
}
