/** Shows fields: what each is called, what it takes, what it means. */

import { make, prose } from "./dom.js";

/** @import { Field } from "./schema.js" */

/**
 * Fields below a title; nothing without fields. `files` names those that take a file.
 * @param {string} title
 * @param {Field[]} fields
 * @param {string[]} files
 */
export function section(title, fields, files = []) {
  if (!fields.length) return [];
  return [make("h4", { className: "label" }, title), fieldList(fields, files)];
}

/**
 * The same, to be opened; closed it shows the names.
 * @param {string} title
 * @param {Field[]} fields
 */
export function folded(title, fields) {
  if (!fields.length) return [];
  const names = fields.map(({ name }) => name).join(", ");
  const summary = make("summary", {}, title, make("span", { className: "quiet" }, ` ${names}`));
  return [make("details", { className: "more" }, summary, fieldList(fields, []))];
}

/**
 * @param {Field[]} fields
 * @param {string[]} files
 */
const fieldList = (fields, files) =>
  make("dl", { className: "fields" }, ...fields.map((field) => fieldOf(field, files)));

/**
 * @param {Field} field
 * @param {string[]} files
 */
function fieldOf(field, files) {
  const name = make(
    "dt",
    {},
    make("code", { className: "name" }, field.name),
    make("span", { className: "quiet" }, field.type),
    field.place ? make("span", { className: "badge" }, field.place) : null,
    field.isRequired ? make("span", { className: "badge warn" }, "required") : null,
    files.includes(field.name) ? make("span", { className: "badge accent" }, "URL or file") : null,
  );
  return make("div", {}, name, make("dd", {}, ...factsOf(field)));
}

/** @param {Field} field */
function factsOf(field) {
  const facts = [
    field.default === undefined || field.default === null
      ? null
      : fact("default", make("code", {}, JSON.stringify(field.default))),
    ...field.bounds.map((bound) => make("span", { className: "fact" }, bound)),
  ].filter((each) => each !== null);
  return [
    field.description ? make("p", {}, prose(field.description)) : null,
    facts.length ? make("p", { className: "facts quiet" }, ...facts) : null,
    field.choices.length ? choices(field.choices) : null,
  ];
}

/**
 * @param {string} name
 * @param {HTMLElement} value
 */
const fact = (name, value) => make("span", { className: "fact" }, `${name} `, value);

/** @param {unknown[]} values */
const choices = (values) =>
  make(
    "p",
    { className: "facts" },
    make("span", { className: "quiet" }, "one of"),
    ...values.map((value) => make("code", { className: "choice" }, asShown(value))),
  );

/** @param {unknown} value */
const asShown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
