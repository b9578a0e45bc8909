/** Reads the OpenAPI document: its operations, the fields of a schema, bodies to begin with. */

const JSON_TYPE = "application/json";
const FORM_TYPE = "multipart/form-data";
const SUBMIT = /^\/api\/v1\/([^/{}]+)\/jobs$/;
const SAMPLES = { string: "", integer: 1, number: 1, boolean: true, array: [], object: {} };

/** The document. Bounds too large for a number of JavaScript's are left as they are written. */
export function parseDocument(text) {
  const exact = (name, value, context) =>
    ["minimum", "maximum"].includes(name) && Math.abs(value) > Number.MAX_SAFE_INTEGER
      ? (context?.source ?? `about ${value}`)
      : value;
  return JSON.parse(text, exact);
}

export function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => operation(document, path, method, told)),
  );
}

function operation(document, path, method, told) {
  const workflow = method === "post" ? (SUBMIT.exec(path)?.[1] ?? null) : null;
  const content = told.requestBody?.content ?? {};
  const [tag = "Service"] = told.tags ?? [];
  const subject = document.tags?.find(({ name }) => name === tag)?.description;
  return {
    id: workflow ?? told.operationId ?? `${method}${path}`,
    method: method.toUpperCase(),
    path,
    workflow,
    tag,
    title: titleOf(told.summary ?? path, subject),
    description: told.description ?? "",
    parameters: told.parameters ?? [],
    body: content[JSON_TYPE]?.schema ?? null,
    bodies: bodies(document, content[JSON_TYPE]),
    files: files(content[FORM_TYPE]?.schema),
    responses: told.responses ?? {},
    needsKey: (told.security ?? document.security ?? []).length > 0,
  };
}

/** The summary, with what it is about where it does not say so. */
const titleOf = (summary, subject) =>
  !subject || summary.includes(subject) ? summary : `${subject} · ${summary}`;

/** Example bodies by name. */
function bodies(document, media) {
  if (!media) return {};
  if (media.example !== undefined) return { example: media.example };
  const named = Object.entries(media.examples ?? {}).map(([name, each]) => [name, each.value]);
  return named.length ? Object.fromEntries(named) : { example: sample(document, media.schema) };
}

/** The fields of a form that take a file. */
function files(schema) {
  return Object.entries(schema?.properties ?? {})
    .filter(([, each]) => each.contentMediaType)
    .map(([name]) => name);
}

/** The path with what was filled in; what was not stays in braces. */
export function pathOf(operation, values) {
  const path = operation.path.replace(/\{(\w+)\}/g, (whole, name) =>
    values[name] ? encodeURIComponent(values[name]) : whole,
  );
  const asked = operation.parameters
    .filter(({ name, in: place }) => place === "query" && values[name])
    .map(({ name }) => [name, values[name]]);
  const query = new URLSearchParams(asked).toString();
  return query ? `${path}?${query}` : path;
}

/** A value that a schema might accept. */
export function sample(document, schema) {
  const one = resolved(document, schema);
  const told = [one.examples?.[0], one.default, one.const, one.enum?.[0], one.minimum];
  const value = told.find((each) => each !== undefined && each !== null);
  if (value !== undefined) return value;
  if (typeOf(one) === "object" && one.properties) return sampleObject(document, one);
  if (typeOf(one) === "array" && one.items && one.minItems) return [sample(document, one.items)];
  return SAMPLES[typeOf(one)] ?? null;
}

function sampleObject(document, schema) {
  const required = Object.entries(schema.properties).filter(([name]) =>
    schema.required?.includes(name),
  );
  return Object.fromEntries(required.map(([name, each]) => [name, sample(document, each)]));
}

/** A schema without its reference, and without the null that stands for "left out". */
export function resolved(document, schema = {}) {
  if (schema.$ref) return resolved(document, at(document, schema.$ref));
  const others = schema.anyOf?.filter((each) => each.type !== "null") ?? [];
  if (others.length !== 1) return schema;
  const { anyOf, ...rest } = schema;
  return { ...resolved(document, others[0]), ...rest };
}

/** The error codes that a schema names, and what each means. */
export function codesOf(document, schema) {
  const known = resolved(document, schema).properties?.code?.anyOf ?? [];
  return known
    .filter((each) => each.const !== undefined)
    .map((each) => ({ name: each.const, description: each.description ?? "" }));
}

function at(document, reference) {
  const steps = reference.replace(/^#\//, "").split("/");
  return steps.reduce((place, step) => place?.[step], document) ?? {};
}

function typeOf(schema) {
  const told = schema.type ?? schema.anyOf?.map((each) => each.type ?? "string") ?? [];
  const types = [...new Set([told].flat())].filter((each) => each !== "null");
  return types.join(" or ") || (schema.properties ? "object" : "");
}

/** What there is to know of each field of a schema of an object. */
export function fieldsOf(document, schema) {
  const object = resolved(document, schema);
  return Object.entries(object.properties ?? {}).map(([name, each]) => ({
    name,
    isRequired: object.required?.includes(name) ?? false,
    ...described(document, each),
  }));
}

export function described(document, schema) {
  const one = resolved(document, schema);
  const items = one.items ? resolved(document, one.items) : null;
  const known = [one, items].find((each) => each?.enum) ?? {};
  return {
    type: items ? `array of ${typeOf(items) || "values"}` : typeOf(one) || "any",
    description: schema.description ?? one.description ?? "",
    default: one.default,
    bounds: [...bounds(one), ...(items ? bounds(items).map((each) => `each ${each}`) : [])],
    choices: (known.enum ?? []).filter((each) => each !== null),
  };
}

function bounds(schema) {
  return [
    range(schema.minimum, schema.maximum, ""),
    range(schema.exclusiveMinimum, schema.exclusiveMaximum, " (exclusive)"),
    range(schema.minLength, schema.maxLength, " characters"),
    range(schema.minItems, schema.maxItems, " items"),
    schema.multipleOf ? `a multiple of ${schema.multipleOf}` : null,
    schema.pattern ? `matches ${schema.pattern}` : null,
    schema.format ?? null,
  ].filter(Boolean);
}

function range(low, high, unit) {
  if (low === undefined && high === undefined) return null;
  // That something must not be empty is no news.
  if (high === undefined && low === 1 && unit === " characters") return null;
  if (high === undefined) return `at least ${low}${unit}`;
  if (low === undefined) return `at most ${high}${unit}`;
  return `${low} to ${high}${unit}`;
}
