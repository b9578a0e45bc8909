/** Reads the OpenAPI document: its operations, the fields of a schema, bodies to begin with. */

/**
 * What is known of one request that the API takes.
 * @typedef {object} Operation
 * @property {string} id
 * @property {string} method
 * @property {string} path
 * @property {string | null} workflow
 * @property {string} tag
 * @property {string} title
 * @property {string} description
 * @property {Parameter[]} parameters
 * @property {Schema | null} body
 * @property {Record<string, Record<string, unknown>>} bodies Example bodies by name.
 * @property {string[]} files Names of the fields that take a file.
 * @property {Record<string, OpenApiResponse>} responses
 * @property {boolean} needsKey
 */

/**
 * What is filled in for a request: its body, and its parameters by name.
 * @typedef {{ body: string, values: Record<string, string> }} Draft
 */

/**
 * What is known of a field.
 * @typedef {object} Field
 * @property {string} name
 * @property {boolean} isRequired
 * @property {string} type
 * @property {string} description
 * @property {unknown} default
 * @property {string[]} bounds
 * @property {unknown[]} choices
 * @property {string} [place] Where a parameter is put.
 */

const JSON_TYPE = "application/json";
const FORM_TYPE = "multipart/form-data";
const SUBMIT = /^\/api\/v1\/([^/{}]+)\/jobs$/;
/** @type {Record<string, unknown>} */
const SAMPLES = { string: "", integer: 1, number: 1, boolean: true, array: [], object: {} };

/**
 * The document. Bounds too large for a number of JavaScript's are left as they are written.
 * @param {string} text
 * @returns {OpenApiDocument}
 */
export function parseDocument(text) {
  /** @type {(name: string, value: any, context?: { source?: string }) => unknown} */
  const exact = (name, value, context) =>
    ["minimum", "maximum"].includes(name) && Math.abs(value) > Number.MAX_SAFE_INTEGER
      ? (context?.source ?? `about ${value}`)
      : value;
  return JSON.parse(text, exact);
}

/** @param {OpenApiDocument} document */
export function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => operation(document, path, method, told)),
  );
}

/**
 * @param {OpenApiDocument} document
 * @param {string} path
 * @param {string} method
 * @param {OpenApiOperation} told
 * @returns {Operation}
 */
function operation(document, path, method, told) {
  const workflow = method === "post" ? (SUBMIT.exec(path)?.[1] ?? null) : null;
  return {
    id: workflow ?? told.operationId ?? `${method}${path}`,
    method: method.toUpperCase(),
    path,
    workflow,
    parameters: told.parameters ?? [],
    responses: told.responses ?? {},
    needsKey: (told.security ?? document.security ?? []).length > 0,
    ...wordsOf(document, told, path),
    ...bodyOf(document, told.requestBody?.content ?? {}),
  };
}

/**
 * @param {OpenApiDocument} document
 * @param {OpenApiOperation} told
 * @param {string} path
 */
function wordsOf(document, told, path) {
  const [tag = "Service"] = told.tags ?? [];
  const subject = document.tags?.find(({ name }) => name === tag)?.description;
  const title = titleOf(told.summary ?? path, subject);
  return { tag, title, description: told.description ?? "" };
}

/**
 * @param {OpenApiDocument} document
 * @param {Record<string, MediaType>} content
 */
function bodyOf(document, content) {
  return {
    body: content[JSON_TYPE]?.schema ?? null,
    bodies: bodies(document, content[JSON_TYPE]),
    files: files(content[FORM_TYPE]?.schema),
  };
}

/**
 * The summary, with what it is about where it does not say so.
 * @param {string} summary
 * @param {string | undefined} subject
 */
const titleOf = (summary, subject) =>
  !subject || summary.includes(subject) ? summary : `${subject} · ${summary}`;

/**
 * Example bodies by name.
 * @param {OpenApiDocument} document
 * @param {MediaType | undefined} media
 */
function bodies(document, media) {
  if (!media) return {};
  if (media.example !== undefined) return { example: media.example };
  const named = Object.entries(media.examples ?? {}).map(([name, each]) => [name, each.value]);
  return named.length ? Object.fromEntries(named) : { example: sample(document, media.schema) };
}

/**
 * The fields of a form that take a file.
 * @param {Schema | undefined} schema
 */
function files(schema) {
  return Object.entries(schema?.properties ?? {})
    .filter(([, each]) => each.contentMediaType)
    .map(([name]) => name);
}

/**
 * The path with what was filled in; what was not stays in braces.
 * @param {Operation} operation
 * @param {Record<string, string>} values
 */
export function pathOf(operation, values) {
  const path = operation.path.replace(/\{(\w+)\}/g, (whole, name) =>
    values[name] ? encodeURIComponent(values[name]) : whole,
  );
  const asked = operation.parameters
    .filter(({ in: place }) => place === "query")
    .map(({ name }) => [name, values[name] ?? ""])
    .filter(([, value]) => value);
  const query = new URLSearchParams(asked).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * A value that a schema might accept.
 * @param {OpenApiDocument} document
 * @param {Schema} [schema]
 * @returns {unknown}
 */
export function sample(document, schema) {
  const one = resolved(document, schema);
  const told = [one.examples?.[0], one.default, one.const, one.enum?.[0], one.minimum];
  const value = told.find((each) => each !== undefined && each !== null);
  if (value !== undefined) return value;
  if (typeOf(one) === "object" && one.properties) return sampleObject(document, one);
  if (typeOf(one) === "array" && one.items && one.minItems) return [sample(document, one.items)];
  return SAMPLES[typeOf(one)] ?? null;
}

/**
 * @param {OpenApiDocument} document
 * @param {Schema} schema
 */
function sampleObject(document, schema) {
  const required = Object.entries(schema.properties ?? {}).filter(([name]) =>
    schema.required?.includes(name),
  );
  return Object.fromEntries(required.map(([name, each]) => [name, sample(document, each)]));
}

/**
 * A schema without its reference, and without the null that stands for "left out".
 * @param {OpenApiDocument} document
 * @param {Schema} schema
 * @returns {Schema}
 */
export function resolved(document, schema = {}) {
  if (schema.$ref) return resolved(document, at(document, schema.$ref));
  const { anyOf = [], ...rest } = schema;
  const [other, ...more] = anyOf.filter((each) => each.type !== "null");
  return other && !more.length ? { ...resolved(document, other), ...rest } : schema;
}

/**
 * The error codes that a schema names, and what each means.
 * @param {OpenApiDocument} document
 * @param {Schema} [schema]
 */
export function codesOf(document, schema) {
  const known = resolved(document, schema).properties?.code?.anyOf ?? [];
  return known.flatMap(({ const: name, description = "" }) => (name ? [{ name, description }] : []));
}

/**
 * @param {OpenApiDocument} document
 * @param {string} reference
 */
function at(document, reference) {
  const steps = reference.replace(/^#\//, "").split("/");
  return steps.reduce((/** @type {any} */ place, step) => place?.[step], document) ?? {};
}

/** @param {Schema} schema */
function typeOf(schema) {
  const told = schema.type ?? schema.anyOf?.flatMap((each) => each.type ?? "string") ?? [];
  const types = [...new Set([told].flat())].filter((each) => each !== "null");
  return types.join(" or ") || (schema.properties ? "object" : "");
}

/**
 * What there is to know of each field of a schema of an object.
 * @param {OpenApiDocument} document
 * @param {Schema} [schema]
 * @returns {Field[]}
 */
export function fieldsOf(document, schema) {
  const object = resolved(document, schema);
  return Object.entries(object.properties ?? {}).map(([name, each]) => ({
    name,
    isRequired: object.required?.includes(name) ?? false,
    ...described(document, each),
  }));
}

/**
 * @param {OpenApiDocument} document
 * @param {Schema} schema
 */
export function described(document, schema = {}) {
  const one = resolved(document, schema);
  const items = one.items ? resolved(document, one.items) : null;
  const choices = one.enum ?? items?.enum ?? [];
  return {
    type: items ? `array of ${typeOf(items) || "values"}` : typeOf(one) || "any",
    description: schema.description ?? one.description ?? "",
    default: one.default,
    bounds: [...bounds(one), ...(items ? bounds(items).map((each) => `each ${each}`) : [])],
    choices: choices.filter((each) => each !== null),
  };
}

/** @param {Schema} schema */
function bounds(schema) {
  return [
    range(schema.minimum, schema.maximum, ""),
    range(schema.exclusiveMinimum, schema.exclusiveMaximum, " (exclusive)"),
    range(schema.minLength, schema.maxLength, " characters"),
    range(schema.minItems, schema.maxItems, " items"),
    schema.multipleOf ? `a multiple of ${schema.multipleOf}` : null,
    schema.pattern ? `matches ${schema.pattern}` : null,
    schema.format ?? null,
  ].filter((each) => each !== null);
}

/**
 * @param {number | string | undefined} low
 * @param {number | string | undefined} high
 * @param {string} unit
 */
function range(low, high, unit) {
  if (low === undefined && high === undefined) return null;
  // That something must not be empty is no news.
  if (high === undefined && low === 1 && unit === " characters") return null;
  if (high === undefined) return `at least ${low}${unit}`;
  if (low === undefined) return `at most ${high}${unit}`;
  return `${low} to ${high}${unit}`;
}
