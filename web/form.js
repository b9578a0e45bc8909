/** What one fills in for a request: pictures, a body, parameters. */

import { byId, make } from "./dom.js";
import { Picker } from "./picker.js";
import { pathOf } from "./schema.js";
import { asText } from "./snippets.js";

/** The job begun last, so that it need not be typed where one is asked for. */
let lastJob = "";
export const rememberJob = (jobId) => (lastJob = jobId);

/** `draft` is what is filled in; `changed` is called after each change of it. */
export class Form {
  constructor(operation, draft, changed) {
    this.operation = operation;
    this.draft = draft;
    this.changed = changed;
    this.headers = {};
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

  /** What is missing, and the element to mend it in. */
  fault() {
    const { operation, draft } = this;
    const open = operation.parameters.find(({ name, required }) => required && !draft.values[name]);
    if (open) return [`Fill in ${open.name}.`, byId(this.idOf(open.name))];
    const isFine = !operation.body || objectIn(draft.body);
    return isFine ? null : [`The body is no JSON object: ${problemOf(draft.body)}`, this.body];
  }

  /** Headers and body, as fetch() takes them. */
  payload() {
    const told = Object.entries(this.headers).filter(([, value]) => value);
    const headers = Object.fromEntries(told);
    if (!this.operation.body) return { headers };
    const chosen = this.pickers.filter(({ file }) => file);
    if (chosen.length) return { headers, body: formOf(objectIn(this.draft.body), chosen) };
    headers["Content-Type"] = "application/json";
    return { headers, body: this.draft.body || "{}" };
  }

  /** A body that leaves out what is required keeps the sample of the one it began with. */
  suggestPictures() {
    const [first = {}] = Object.values(this.operation.bodies);
    const body = objectIn(this.draft.body);
    if (!body) return;
    for (const picker of this.pickers) picker.named(body[picker.name] ?? first[picker.name]);
  }

  bodyRows() {
    if (!this.operation.body) return [];
    const id = this.idOf("body");
    this.body = make("textarea", {
      id,
      value: this.draft.body,
      rows: rowsOf(this.draft.body),
      spellcheck: false,
    });
    this.body.addEventListener("input", () => this.setBody(this.body.value));
    const label = make("label", { htmlFor: id }, "Body, as JSON");
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

  parameterRow(parameter) {
    const { name, in: place, schema = {} } = parameter;
    const id = this.idOf(name);
    const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
    const input = choices
      ? make("select", { id }, make("option"), choices.map((each) => make("option", {}, each)))
      : make("input", { id, autocomplete: "off", spellcheck: false });
    if (schema.default !== undefined) input.placeholder = String(schema.default);
    if (name === "job_id") this.offerLastJob(input);
    input.addEventListener("input", () => {
      const values = place === "header" ? this.headers : this.draft.values;
      values[name] = input.value.trim();
      this.changed();
    });
    return make("div", { className: "row" }, make("label", { htmlFor: id }, name), input);
  }

  offerLastJob(input) {
    input.addEventListener("focus", () => {
      if (input.value || !lastJob) return;
      input.value = lastJob;
      input.dispatchEvent(new Event("input"));
    });
  }

  idOf(name) {
    return `${this.operation.id}-${name}`.replace(/[^\w-]/g, "-");
  }
}

function formOf(body, pickers) {
  const form = new FormData();
  const sent = pickers.map(({ name }) => name);
  for (const [name, value] of Object.entries(body)) {
    if (value !== null && !sent.includes(name)) form.append(name, asText(value));
  }
  for (const { name, file } of pickers) form.append(name, file);
  return form;
}

/** The object that a JSON text is; null if it is none. */
function objectIn(text) {
  try {
    const value = JSON.parse(text || "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function problemOf(text) {
  try {
    JSON.parse(text);
    return "it is something else.";
  } catch (error) {
    return error.message;
  }
}

const rowsOf = (text) => Math.min(16, Math.max(4, text.split("\n").length));
