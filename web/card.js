/** Shows one operation: what it takes, what it answers, how it is called. */

import { answersOf } from "./answers.js";
import { make, prose } from "./dom.js";
import { examplesOf } from "./examples.js";
import { folded, section } from "./fields.js";
import { described, fieldsOf } from "./schema.js";
import { tryOut } from "./try.js";

/** @import { DocsState } from "./docs-state.js" */
/** @import { Draft, Operation } from "./schema.js" */

/**
 * The parts of a card, made when it is opened.
 * @param {OpenApiDocument} document
 * @param {Operation} operation
 * @param {DocsState} state
 */
export function contentOf(document, operation, state) {
  /** @type {Draft} */
  const draft = { body: firstBody(operation), values: {} };
  const examples = examplesOf(operation, draft, state);
  const tried = [examples.element, tryOut(operation, draft, state, examples.refresh)];
  return [
    make("div", { className: "told" }, toldOf(document, operation)),
    make("div", { className: "tried" }, tried),
  ];
}

/** @param {Operation} operation */
function firstBody(operation) {
  const [first = {}] = Object.values(operation.bodies);
  return operation.body ? JSON.stringify(first, null, 2) : "";
}

/**
 * @param {OpenApiDocument} document
 * @param {Operation} operation
 */
function toldOf(document, operation) {
  return [
    operation.description ? [make("p", {}, prose(operation.description))] : [],
    bodyOf(document, operation),
    parametersOf(document, operation),
    answersOf(document, operation),
  ].flat();
}

/**
 * @param {OpenApiDocument} document
 * @param {Operation} operation
 */
function bodyOf(document, operation) {
  if (!operation.body) return [];
  const common = operation.workflow ? (document["x-common-fields"] ?? []) : [];
  const fields = fieldsOf(document, operation.body).sort((a, b) => Number(b.isRequired) - Number(a.isRequired));
  const own = fields.filter(({ name }) => !common.includes(name));
  const shared = fields.filter(({ name }) => common.includes(name));
  return [
    ...section("Fields", own, operation.files),
    ...folded("Fields of every workflow", shared),
  ];
}

/**
 * @param {OpenApiDocument} document
 * @param {Operation} operation
 */
function parametersOf(document, operation) {
  const fields = operation.parameters.map((parameter) => ({
    ...described(document, parameter.schema),
    name: parameter.name,
    isRequired: parameter.required ?? false,
    description: parameter.description ?? "",
    place: parameter.in,
  }));
  return operation.workflow
    ? folded("Headers and query", fields)
    : section("Parameters", fields);
}
