/** Shows what an operation answers: by status, with an example, its fields and its error codes. */

import { code } from "./code.js";
import { make, prose } from "./dom.js";
import { folded } from "./fields.js";
import { codesOf, fieldsOf, resolved } from "./schema.js";

/** @import { Operation } from "./schema.js" */

/**
 * By the first digit of a status.
 * @type {Record<string, string>}
 */
const TONES = { 2: "good", 3: "accent" };

/**
 * @param {OpenApiDocument} document
 * @param {Operation} operation
 */
export function answersOf(document, operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) =>
    answerOf(document, status, answer),
  );
  const title = make("h4", { className: "label" }, "Answers");
  return [title, make("div", { className: "answers" }, rows)];
}

/**
 * @param {OpenApiDocument} document
 * @param {string} status
 * @param {OpenApiResponse} answer
 */
function answerOf(document, status, answer) {
  const [[type, media] = [null, null]] = Object.entries(answer.content ?? {});
  const head = [
    make("span", { className: `badge ${toneOf(status)}` }, nameOf(status)),
    make("span", {}, answer.description ?? ""),
    type ? make("code", { className: "quiet" }, type) : null,
  ];
  const inside = media ? insideOf(document, media) : [];
  return inside.length
    ? make("details", { className: "answer" }, make("summary", {}, head), inside)
    : make("p", { className: "answer" }, head);
}

/**
 * @param {OpenApiDocument} document
 * @param {MediaType} media
 */
function insideOf(document, media) {
  const [example] = Object.values(media.examples ?? {}).map((each) => each.value);
  const fields = fieldsOf(document, firstKind(document, media.schema));
  // What an answer has is always there.
  const shown = fields.map((field) => ({ ...field, isRequired: false }));
  return [
    example === undefined ? [] : [code(JSON.stringify(example, null, 2))],
    folded("Fields", shown),
    codes(codesOf(document, media.schema)),
  ].flat();
}

/**
 * An answer that can be of several kinds is shown as the first of them.
 * @param {OpenApiDocument} document
 * @param {Schema} [schema]
 */
function firstKind(document, schema) {
  const one = resolved(document, schema);
  return one.properties ? one : (one.anyOf?.[0] ?? one);
}

/** @param {{ name: string, description: string }[]} known */
function codes(known) {
  if (!known.length) return [];
  const rows = known.map(({ name, description }) =>
    make("div", {}, make("dt", {}, make("code", {}, name)), make("dd", {}, prose(description))),
  );
  const list = make("dl", { className: "codes" }, rows);
  return [make("details", { className: "more" }, make("summary", {}, "Error codes"), list)];
}

/** @param {string} status */
const nameOf = (status) => (status === "default" ? "4xx, 5xx" : status);

/** @param {string} status */
const toneOf = (status) => TONES[status.charAt(0)] ?? "bad";
