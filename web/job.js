/** Follows a job, from its stream of events, to its pictures. */

import { FINAL, outputUrl, refusal } from "./api.js";
import { coloured } from "./code.js";
import { make } from "./dom.js";
import { bytes } from "./size.js";

/** @import { Api } from "./api.js" */

/** @type {Partial<Record<JobStatus, string>>} */
const TONES = { completed: "good", failed: "bad", cancelled: "warn" };

export class JobPanel {
  /**
   * `json` is the element that shows the job; what comes of it is shown until `signal` is aborted.
   * @param {Api} api
   * @param {HTMLElement} json
   * @param {AbortSignal} signal
   */
  constructor(api, json, signal) {
    this.api = api;
    this.json = json;
    this.signal = signal;
    this.state = make("span", { className: "badge accent", role: "status" });
    this.detail = make("span", { className: "quiet detail" });
    this.bar = make("progress", { max: 100, value: 0, "aria-label": "Progress" });
    this.cancel = make("button", { type: "button", className: "small" }, "Cancel");
    this.picture = make("div", { className: "picture" });
    const head = make("p", { className: "state" }, this.state, this.detail, this.cancel);
    this.element = make("div", { className: "job" }, head, this.bar, this.picture);
  }

  /** @param {JobView} job */
  async follow(job) {
    this.cancel.addEventListener("click", () => this.requestCancel(job));
    this.show(job);
    let now = job;
    while (!FINAL.includes(now.status)) now = await this.watched(now);
    this.show(now);
    await this.showResults(now);
  }

  /** @param {JobView} job */
  async requestCancel(job) {
    const reply = await this.api.ask(`${pathTo(job)}/cancel`, { method: "POST" }).catch(() => null);
    if (!reply?.ok) this.detail.textContent = "It could not be cancelled.";
  }

  /**
   * The job after a while: when its stream has ended, for whatever reason.
   * @param {JobView} job
   * @returns {Promise<JobView>}
   */
  async watched(job) {
    const { signal } = this;
    try {
      const events = this.api.events(`${pathTo(job)}/events?previews=true`, signal);
      for await (const { name, data } of events) {
        if (name === "progress") this.showProgress(data);
        if (name === "preview") this.showPreview(data);
        if (name === "status") this.show((job = data));
      }
      if (FINAL.includes(job.status)) return job;
    } catch (error) {
      if (signal.aborted) throw error;
    }
    // A stream may be cut on its way; asking for the job never misleads.
    const reply = await this.api.ask(`${pathTo(job)}?wait=5`, { signal });
    if (!reply.ok) throw new Error(await refusal(reply));
    return reply.json();
  }

  /** @param {JobView} job */
  show(job) {
    this.state.textContent = job.status;
    this.state.className = `badge ${TONES[job.status] ?? "accent"}`;
    this.cancel.hidden = FINAL.includes(job.status);
    this.json.replaceChildren(...coloured(JSON.stringify(job, null, 2)));
    this.showProgress(job.progress);
    this.detail.textContent = job.error ?? this.detail.textContent;
  }

  /** @param {ProgressView} progress */
  showProgress(progress) {
    this.bar.value = progress.percent;
    this.detail.textContent = wordsOf(progress);
  }

  /** @param {Preview} preview */
  showPreview({ content_type: type, data }) {
    this.put(make("img", { src: `data:${type};base64,${data}`, alt: "How far the picture is" }));
  }

  /** @param {JobView} job */
  async showResults(job) {
    this.picture.hidden = !job.outputs.length;
    for (const [number, output] of job.outputs.entries()) {
      const isPicture = output.content_type.startsWith("image/");
      const url = isPicture ? await outputUrl(this.api, job, number, this.signal) : output.url;
      if (number === 0 && isPicture) this.put(make("img", { src: url, alt: "The result" }));
      this.element.append(linkOf(output, url));
    }
  }

  /** @param {HTMLImageElement} picture */
  put(picture) {
    this.picture.replaceChildren(picture);
  }
}

/** @param {JobView} job */
const pathTo = (job) => `jobs/${encodeURIComponent(job.job_id)}`;

/**
 * @param {OutputView} output
 * @param {string} url
 */
function linkOf(output, url) {
  const size = output.width ? `${output.width} × ${output.height}, ` : "";
  const text = `Open ${output.name}`;
  const facts = ` ${size}${output.content_type}, ${bytes(output.size)}`;
  const link = make("a", { href: url, target: "_blank", rel: "noopener" }, text);
  return make("p", { className: "hint" }, link, make("span", { className: "quiet" }, facts));
}

/** @param {ProgressView} progress */
function wordsOf({ percent, node, step, steps, queue_position: position, eta_seconds: eta }) {
  const words = [
    `${percent} %`,
    position ? `number ${position} in the queue` : null,
    node,
    steps ? `step ${step} of ${steps}` : null,
    eta ? `about ${eta} s left` : null,
  ];
  return words.filter(Boolean).join(" · ");
}
