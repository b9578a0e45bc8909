/** Shows what an operation answers: by status, with an example, its fields and its error codes. */

import { code } from "./code.js";
import { make, prose } from "./dom.js";
import { folded } from "./fields.js";
import { codesOf, fieldsOf, resolved } from "./schema.js";

export function answersOf(document, operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) =>
    answerOf(document, status, answer),
  );
  const title = make("h4", { className: "label" }, "Answers");
  return [title, make("div", { className: "answers" }, rows)];
}

function answerOf(document, status, answer) {
  const [[type, media] = []] = Object.entries(answer.content ?? {});
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

/** An answer that can be of several kinds is shown as the first of them. */
function firstKind(document, schema) {
  const one = resolved(document, schema);
  return one.properties ? one : (one.anyOf?.[0] ?? one);
}

function codes(known) {
  if (!known.length) return [];
  const rows = known.map(({ name, description }) =>
    make("div", {}, make("dt", {}, make("code", {}, name)), make("dd", {}, prose(description))),
  );
  const list = make("dl", { className: "codes" }, rows);
  return [make("details", { className: "more" }, make("summary", {}, "Error codes"), list)];
}

const nameOf = (status) => (status === "default" ? "4xx, 5xx" : status);

const toneOf = (status) => ({ 2: "good", 3: "accent" })[status[0]] ?? "bad";
