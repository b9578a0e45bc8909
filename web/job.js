/** Follows a job, from its stream of events, to its pictures. */

import { FINAL, ask, events, pictureOf, refusal } from "./api.js";
import { coloured } from "./code.js";
import { make } from "./dom.js";
import { bytes } from "./size.js";

const TONES = { completed: "good", failed: "bad", cancelled: "warn" };

/** `json` is the element that shows the job; `addresses` takes those that are to be revoked. */
export class JobPanel {
  constructor(json, addresses) {
    this.json = json;
    this.addresses = addresses;
    this.state = make("span", { className: "badge accent", role: "status" });
    this.detail = make("span", { className: "quiet detail" });
    this.bar = make("progress", { max: 100, value: 0, "aria-label": "Progress" });
    this.cancel = make("button", { type: "button", className: "small" }, "Cancel");
    this.picture = make("div", { className: "picture" });
    const head = make("p", { className: "state" }, this.state, this.detail, this.cancel);
    this.element = make("div", { className: "job" }, head, this.bar, this.picture);
  }

  async follow(job, signal) {
    this.cancel.addEventListener("click", () => this.giveUp(job));
    this.show(job);
    let now = job;
    while (!FINAL.includes(now.status)) now = await this.watched(now, signal);
    this.show(now);
    await this.showResults(now);
  }

  async giveUp(job) {
    const reply = await ask(`${pathTo(job)}/cancel`, { method: "POST" }).catch(() => null);
    if (!reply?.ok) this.detail.textContent = "It could not be cancelled.";
  }

  /** The job after a while: when its stream has ended, for whatever reason. */
  async watched(job, signal) {
    try {
      for await (const { name, data } of events(`${pathTo(job)}/events?previews=true`, signal)) {
        if (name === "progress") this.showProgress(data);
        if (name === "preview") this.showPreview(data);
        if (name === "status") this.show((job = data));
      }
      if (FINAL.includes(job.status)) return job;
    } catch (error) {
      if (signal.aborted) throw error;
    }
    // A stream may be cut on its way; asking for the job never misleads.
    const reply = await ask(`${pathTo(job)}?wait=5`, { signal });
    if (!reply.ok) throw new Error(await refusal(reply));
    return reply.json();
  }

  show(job) {
    this.state.textContent = job.status;
    this.state.className = `badge ${TONES[job.status] ?? "accent"}`;
    this.cancel.hidden = FINAL.includes(job.status);
    this.json.replaceChildren(...coloured(JSON.stringify(job, null, 2)));
    this.showProgress(job.progress);
    this.detail.textContent = job.error ?? this.detail.textContent;
  }

  showProgress(progress) {
    this.bar.value = progress.percent;
    this.detail.textContent = wordsOf(progress);
  }

  showPreview({ content_type: type, data }) {
    this.put(make("img", { src: `data:${type};base64,${data}`, alt: "How far the picture is" }));
  }

  async showResults(job) {
    this.picture.hidden = !job.outputs.length;
    for (const [number, output] of job.outputs.entries()) {
      const isPicture = output.content_type.startsWith("image/");
      const address = isPicture ? await pictureOf(job, number) : output.url;
      if (address.startsWith("blob:")) this.addresses.push(address);
      if (number === 0 && isPicture) this.put(make("img", { src: address, alt: "The result" }));
      this.element.append(linkOf(output, address));
    }
  }

  put(picture) {
    this.picture.replaceChildren(picture);
  }
}

const pathTo = (job) => `jobs/${encodeURIComponent(job.job_id)}`;

function linkOf(output, address) {
  const size = output.width ? `${output.width} × ${output.height}, ` : "";
  const text = `Open ${output.name}`;
  const facts = ` ${size}${output.content_type}, ${bytes(output.size)}`;
  const link = make("a", { href: address, target: "_blank", rel: "noopener" }, text);
  return make("p", { className: "hint" }, link, make("span", { className: "quiet" }, facts));
}

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
