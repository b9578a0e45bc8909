/** What one fills in for a request: pictures, a body, parameters. */

import { byId, make } from "./dom.js";
import { Picker } from "./picker.js";
import { pathOf } from "./schema.js";
import { asText } from "./snippets.js";

/** @import { DocsState } from "./docs-state.js" */
/** @import { Draft, Operation } from "./schema.js" */

export class Form {
  /**
   * `draft` is what is filled in; `changed` is called after each change of it.
   * @param {Operation} operation
   * @param {Draft} draft
   * @param {DocsState} state
   * @param {() => void} changed
   */
  constructor(operation, draft, state, changed) {
    this.operation = operation;
    this.draft = draft;
    this.state = state;
    this.changed = changed;
    /** @type {Record<string, string>} */
    this.headers = {};
    this.body = make("textarea", { id: this.idOf("body"), spellcheck: false });
    this.pickers = operation.files.map((name) => new Picker(name, this.idOf(name)));
    this.suggestPictures();
  }

  /** The elements to fill in. */
  rows() {
    const pictures = this.pickers.map((picker) => picker.row());
    return [...pictures, ...this.bodyRows(), ...this.parameterRows()];
  }

  get path() {
    return pathOf(this.operation, this.draft.values);
  }

  /**
   * What is missing, and the element to mend it in.
   * @returns {{ text: string, place: HTMLElement } | null}
   */
  fault() {
    const { operation, draft } = this;
    const open = operation.parameters.find(({ name, required }) => required && !draft.values[name]);
    if (open) return { text: `Fill in ${open.name}.`, place: byId(this.idOf(open.name)) };
    const isFine = !operation.body || objectIn(draft.body);
    const text = `The body is no JSON object: ${problemOf(draft.body)}`;
    return isFine ? null : { text, place: this.body };
  }

  /** Headers and body, as fetch() takes them. */
  payload() {
    const told = Object.entries(this.headers).filter(([, value]) => value);
    const headers = Object.fromEntries(told);
    if (!this.operation.body) return { headers };
    const files = this.pickers.flatMap(({ name, file }) => (file ? [{ name, file }] : []));
    if (files.length) return { headers, body: formOf(objectIn(this.draft.body) ?? {}, files) };
    headers["Content-Type"] = "application/json";
    return { headers, body: this.draft.body || "{}" };
  }

  /** A body that leaves out what is required keeps the sample of the one it began with. */
  suggestPictures() {
    const [first = {}] = Object.values(this.operation.bodies);
    const body = objectIn(this.draft.body);
    if (!body) return;
    for (const picker of this.pickers) picker.named(`${body[picker.name] ?? first[picker.name]}`);
  }

  bodyRows() {
    if (!this.operation.body) return [];
    this.body.value = this.draft.body;
    this.body.rows = rowsOf(this.draft.body);
    this.body.addEventListener("input", () => this.setBody(this.body.value));
    const label = make("label", { htmlFor: this.body.id }, "Body, as JSON");
    const head = make("div", { className: "over" }, label, ...this.exampleButtons());
    return [make("div", { className: "row" }, head, this.body)];
  }

  exampleButtons() {
    const bodies = Object.entries(this.operation.bodies);
    if (bodies.length < 2) return [];
    return bodies.map(([name, body]) => {
      const button = make("button", { type: "button", className: "small" }, name);
      button.setAttribute("aria-label", `Fill in the ${name} example`);
      button.addEventListener("click", () => {
        this.body.value = JSON.stringify(body, null, 2);
        this.body.rows = rowsOf(this.body.value);
        this.setBody(this.body.value);
      });
      return button;
    });
  }

  /** @param {string} text */
  setBody(text) {
    this.draft.body = text;
    this.suggestPictures();
    this.changed();
  }

  parameterRows() {
    const rows = this.operation.parameters.map((parameter) => this.parameterRow(parameter));
    if (!this.operation.workflow || !rows.length) return rows;
    const summary = make("summary", {}, "Headers and query");
    return [make("details", { className: "more" }, summary, rows)];
  }

  /** @param {Parameter} parameter */
  parameterRow({ name, in: place, schema = {} }) {
    const id = this.idOf(name);
    const input = inputFor(id, schema);
    if (name === "job_id") this.offerLastJob(input);
    input.addEventListener("input", () => {
      const values = place === "header" ? this.headers : this.draft.values;
      values[name] = input.value.trim();
      this.changed();
    });
    return make("div", { className: "row" }, make("label", { htmlFor: id }, name), input);
  }

  /** @param {HTMLInputElement | HTMLSelectElement} input */
  offerLastJob(input) {
    input.addEventListener("focus", () => {
      if (input.value || !this.state.lastJob) return;
      input.value = this.state.lastJob;
      input.dispatchEvent(new Event("input"));
    });
  }

  /** @param {string} name */
  idOf(name) {
    return `${this.operation.id}-${name}`.replace(/[^\w-]/g, "-");
  }
}

/**
 * @param {string} id
 * @param {Schema} schema
 */
function inputFor(id, schema) {
  const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
  if (choices) {
    const options = choices.map((each) => make("option", {}, String(each)));
    return make("select", { id }, make("option"), options);
  }
  const placeholder = schema.default === undefined ? null : String(schema.default);
  return make("input", { id, autocomplete: "off", spellcheck: false, placeholder });
}

/**
 * @param {Record<string, unknown>} body
 * @param {{ name: string, file: File }[]} files
 */
function formOf(body, files) {
  const form = new FormData();
  const sent = files.map(({ name }) => name);
  for (const [name, value] of Object.entries(body)) {
    if (value !== null && !sent.includes(name)) form.append(name, asText(value));
  }
  for (const { name, file } of files) form.append(name, file);
  return form;
}

/**
 * The object that a JSON text is; null if it is none.
 * @param {string} text
 * @returns {Record<string, unknown> | null}
 */
function objectIn(text) {
  try {
    const value = JSON.parse(text || "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** @param {string} text */
function problemOf(text) {
  try {
    JSON.parse(text);
    return "it is something else.";
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
}

/** @param {string} text */
const rowsOf = (text) => Math.min(16, Math.max(4, text.split("\n").length));
