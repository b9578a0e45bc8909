/** Sends a request as it is filled in, and shows what comes of it. */

import { ROOT, ask, getKey } from "./api.js";
import { code } from "./code.js";
import { byId, make } from "./dom.js";
import { Form, rememberJob } from "./form.js";
import { JobPanel } from "./job.js";

const LONGEST_SHOWN = 50_000;
const NO_KEY = "This server asks for a key: fill in “API key” at the top of the page.";

/** `draft` is what is filled in; `changed` is called after each change of it. */
export function tryOut(operation, draft, changed) {
  return new Trial(operation, new Form(operation, draft, changed)).element;
}

class Trial {
  constructor(operation, form) {
    this.operation = operation;
    this.form = form;
    this.addresses = [];
    this.stop = new AbortController();
    this.isSending = false;
    this.element = this.build();
  }

  build() {
    this.message = make("p", { className: "note bad", role: "alert", hidden: true });
    this.answer = make("div", { className: "answered" });
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
    const fault = this.isLocked() ? [NO_KEY, byId("key")] : this.form.fault();
    if (fault) return this.complain(...fault);
    const { signal } = this.stop;
    try {
      await this.show(await this.reply(signal), signal);
    } catch (error) {
      if (!signal.aborted) this.complain(`No answer: ${error.message}`);
    }
  }

  isLocked() {
    return this.operation.needsKey && !getKey();
  }

  /** A second click while this lasts sends nothing. */
  async reply(signal) {
    const began = performance.now();
    const { method } = this.operation;
    this.isSending = true;
    try {
      const reply = await ask(ROOT + this.form.path, { method, signal, ...this.form.payload() });
      this.answer.append(statusLine(reply, Math.round(performance.now() - began)));
      return reply;
    } finally {
      this.isSending = false;
    }
  }

  complain(text, place) {
    this.message.textContent = text;
    this.message.hidden = false;
    place?.focus();
  }

  /** Whatever the last request has left. */
  forget() {
    this.stop.abort();
    this.stop = new AbortController();
    this.message.hidden = true;
    this.answer.replaceChildren();
    this.addresses.splice(0).forEach((address) => URL.revokeObjectURL(address));
  }

  // -- the answer ---------------------------------------------------------------------------------

  async show(reply, signal) {
    const type = reply.headers.get("Content-Type") ?? "";
    if (type.startsWith("image/")) return this.showPicture(await reply.blob());
    if (type.startsWith("text/event-stream")) return this.showStream(reply);
    const text = await reply.text();
    const told = type.includes("json") && text ? JSON.parse(text) : null;
    const shown = told ? JSON.stringify(told, null, 2) : text.slice(0, LONGEST_SHOWN);
    const element = code(shown);
    if (told?.job_id && this.operation.method !== "GET") return this.follow(told, element, signal);
    if (shown) this.answer.append(element);
  }

  async follow(job, element, signal) {
    rememberJob(job.job_id);
    const panel = new JobPanel(element, this.addresses);
    this.answer.append(panel.element, element);
    await panel.follow(job, signal);
  }

  showPicture(blob) {
    const address = URL.createObjectURL(blob);
    this.addresses.push(address);
    const picture = make("img", { src: address, alt: "The answer" });
    this.answer.append(make("div", { className: "picture" }, picture));
  }

  async showStream(reply) {
    const shown = make("pre", { tabIndex: 0, "aria-label": "The stream" });
    this.answer.append(shown);
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      shown.append(value);
      shown.scrollTop = shown.scrollHeight;
    }
  }
}

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
