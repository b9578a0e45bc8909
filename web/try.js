/** Sends a request as it is filled in, and shows what comes of it. */

import { ROOT, blobUrl } from "./api.js";
import { code } from "./code.js";
import { make } from "./dom.js";
import { Form } from "./form.js";
import { JobPanel } from "./job.js";

/** @import { DocsState } from "./docs-state.js" */
/** @import { Draft, Operation } from "./schema.js" */

const LONGEST_SHOWN = 50_000;

/**
 * `draft` is what is filled in; `changed` is called after each change of it.
 * @param {Operation} operation
 * @param {Draft} draft
 * @param {DocsState} state
 * @param {() => void} changed
 */
export function tryOut(operation, draft, state, changed) {
  return new Trial(operation, new Form(operation, draft, state, changed), state).element;
}

class Trial {
  /** Aborted when the answer is shown no more, which revokes the URLs of its images. */
  #shown = new AbortController();

  /**
   * @param {Operation} operation
   * @param {Form} form
   * @param {DocsState} state
   */
  constructor(operation, form, state) {
    this.operation = operation;
    this.form = form;
    this.state = state;
    this.isSending = false;
    this.message = make("p", { className: "note bad", role: "alert", hidden: true });
    this.answer = make("div", { className: "answered" });
    this.element = this.build();
  }

  build() {
    const element = make(
      "form",
      { className: "try", "aria-label": `Try ${this.operation.title}`, noValidate: true },
      make("h4", { className: "label" }, "Try it"),
      this.form.rows(),
      make("p", {}, make("button", { type: "submit", className: "main" }, "Send")),
      this.message,
      this.answer,
    );
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    return element;
  }

  async send() {
    if (this.isSending) return;
    this.forget();
    const fault = this.form.fault();
    if (fault) return this.complain(fault.text, fault.place);
    const { signal } = this.#shown;
    // What a key has shown goes with it.
    this.state.api.session.addEventListener("abort", () => this.forget(), { signal });
    try {
      await this.show(await this.reply(signal), signal);
    } catch (error) {
      const reason = error instanceof Error ? error.message : `${error}`;
      if (!signal.aborted) this.complain(`No answer: ${reason}`);
    }
  }

  /**
   * A second click while this lasts sends nothing.
   * @param {AbortSignal} signal
   */
  async reply(signal) {
    const began = performance.now();
    const options = { method: this.operation.method, signal, ...this.form.payload() };
    this.isSending = true;
    try {
      const reply = await this.state.api.ask(ROOT + this.form.path, options);
      this.answer.append(statusLine(reply, Math.round(performance.now() - began)));
      return reply;
    } finally {
      this.isSending = false;
    }
  }

  /**
   * @param {string} text
   * @param {HTMLElement} [place]
   */
  complain(text, place) {
    this.message.textContent = text;
    this.message.hidden = false;
    place?.focus();
  }

  /** Whatever the last request has left. */
  forget() {
    this.#shown.abort();
    this.#shown = new AbortController();
    this.message.hidden = true;
    this.answer.replaceChildren();
  }

  // -- the answer ---------------------------------------------------------------------------------

  /**
   * @param {Response} reply
   * @param {AbortSignal} signal
   */
  async show(reply, signal) {
    const type = reply.headers.get("Content-Type") ?? "";
    if (type.startsWith("image/")) return this.showPicture(await blobUrl(reply, signal));
    if (type.startsWith("text/event-stream")) return this.showStream(reply);
    const text = await reply.text();
    const told = type.includes("json") && text ? JSON.parse(text) : null;
    const shown = told ? JSON.stringify(told, null, 2) : text.slice(0, LONGEST_SHOWN);
    const element = code(shown);
    if (told?.job_id && this.operation.method !== "GET") return this.follow(told, element, signal);
    if (shown) this.answer.append(element);
  }

  /**
   * @param {JobView} job
   * @param {HTMLElement} element
   * @param {AbortSignal} signal
   */
  async follow(job, element, signal) {
    this.state.lastJob = job.job_id;
    const panel = new JobPanel(this.state.api, element, signal);
    this.answer.append(panel.element, element);
    await panel.follow(job);
  }

  /** @param {string} url */
  showPicture(url) {
    const picture = make("img", { src: url, alt: "The answer" });
    this.answer.append(make("div", { className: "picture" }, picture));
  }

  /** @param {Response} reply */
  async showStream(reply) {
    const shown = make("pre", { tabIndex: 0, "aria-label": "The stream" });
    this.answer.append(shown);
    const reader = reply.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) return;
      shown.append(value ?? "");
      shown.scrollTop = shown.scrollHeight;
    }
  }
}

/**
 * @param {Response} reply
 * @param {number} milliseconds
 */
function statusLine(reply, milliseconds) {
  const tone = reply.ok ? "good" : "bad";
  const words = `${reply.status} ${reply.statusText}`.trim();
  return make(
    "p",
    { className: "state", role: "status" },
    make("span", { className: `badge ${tone}` }, words),
    make("span", { className: "quiet" }, `${milliseconds} ms`),
  );
}
