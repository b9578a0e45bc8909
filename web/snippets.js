/** Writes requests as programs: for the shell, in Python and in JavaScript. */

/** @typedef {"job" | "stream" | "file" | "other"} Told */

/**
 * A request, as a program is to send it.
 * @typedef {object} Request
 * @property {string} method
 * @property {string} root Where paths begin.
 * @property {string} path With its query.
 * @property {string | null} body As JSON text.
 * @property {boolean} needsKey
 * @property {string | null} file The name of a field that takes a file.
 * @property {Told} told What is answered.
 */

const STRING = /("(?:\\.|[^"\\])*")|\b(true|false|null)\b/g;
/** @type {Record<string, string>} */
const PYTHON = { true: "True", false: "False", null: "None" };

/**
 * The programs by language.
 * @param {Request} request
 * @returns {Record<string, string>}
 */
export function snippets(request) {
  return { curl: curl(request), Python: python(request), JavaScript: javascript(request) };
}

// -- curl ---------------------------------------------------------------------------------------

/** @type {Partial<Record<Told, string>>} */
const CURL = { stream: " -N", file: " -L -o result" };

/** @param {Request} request */
function curl(request) {
  const parts = [
    `curl${CURL[request.told] ?? ""}${verb(request)} ${url(request)}`,
    request.needsKey ? `-H "Authorization: Bearer $UNIFIED_API_KEY"` : null,
    request.told === "job" && request.body ? "-H 'Prefer: wait=60'" : null,
    request.body ? "-H 'Content-Type: application/json'" : null,
    request.body ? `-d ${quoted(request.body)}` : null,
  ];
  return lines(parts) + (request.file ? upload(request) : "");
}

/** @param {Request} request */
function upload(request) {
  const parts = [
    `curl ${url(request)}`,
    request.needsKey ? `-H "Authorization: Bearer $UNIFIED_API_KEY"` : null,
    "-H 'Prefer: wait=60'",
    `-F ${request.file}=@photo.jpg`,
    ...formFields(request).map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`),
  ];
  return `\n\n# the same with a file of yours\n${lines(parts)}`;
}

/** @param {Request} request */
function formFields({ body, file }) {
  const told = Object.entries(parsed(body) ?? {}).filter(([name, value]) => {
    return name !== file && value !== null;
  });
  return told.map(([name, value]) => [name, asText(value)]);
}

/**
 * A value as a form carries it.
 * @param {unknown} value
 */
export const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** @param {Request} request */
const verb = ({ method, body }) => (method === "GET" || body ? "" : ` -X ${method}`);
/** @param {Request} request */
const url = ({ root, path }) => quoted(root + path);
/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
/** @param {(string | null)[]} parts */
const lines = (parts) => parts.filter(Boolean).join(" \\\n  ");

/**
 * @param {string | null} text
 * @returns {Record<string, unknown> | null}
 */
function parsed(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

// -- Python -------------------------------------------------------------------------------------

/** @param {Request} request */
function python(request) {
  const needs = [request.needsKey ? "import os" : null, request.needsKey ? "" : null];
  const key = request.needsKey
    ? `headers = {"Authorization": f"Bearer {os.environ['UNIFIED_API_KEY']}"}`
    : null;
  const head = [...needs, "import requests", "", `root = ${JSON.stringify(request.root)}`, key, ""];
  return [...head, ...pythonCall(request), ...PYTHON_END[request.told](request)]
    .filter((line) => line !== null)
    .join("\n");
}

/** @param {Request} request */
function pythonCall(request) {
  const stream = request.told === "stream" ? ", stream=True" : "";
  const options = `${pythonKey(request)}, timeout=${stream ? "None" : 30}${stream}`;
  const start = `reply = requests.${request.method.toLowerCase()}(`;
  const end = ["reply.raise_for_status()"];
  if (!request.body) return [`${start}root + ${JSON.stringify(request.path)}${options})`, ...end];
  const body = indented(pythonLiteral(request.body).replace(/^ +/gm, "$&$&"), "    ");
  return [
    start,
    `    root + ${JSON.stringify(request.path)},`,
    `    json=${body},`,
    `    ${options.replace(/^, /, "").replaceAll(", ", ",\n    ")},`,
    ")",
    ...end,
  ];
}

/** @param {Request} request */
const pythonKey = ({ needsKey }) => (needsKey ? ", headers=headers" : "");

/**
 * The end of a program for each kind of answer.
 * @type {Record<Told, (request: Request) => string[]>}
 */
const PYTHON_END = {
  job: (request) => [
    "job = reply.json()",
    'while job["status"] in ("pending", "processing"):',
    `    url = root + job["urls"]["self"] + "?wait=60"`,
    `    job = requests.get(url${pythonKey(request)}, timeout=90).json()`,
    'print(job["result_url"] or job["error"])',
  ],
  stream: () => [
    "for line in reply.iter_lines(decode_unicode=True):",
    '    if line.startswith("data: "):',
    "        print(line[6:])",
  ],
  file: () => ['with open("result", "wb") as file:', "    file.write(reply.content)"],
  other: () => ["print(reply.text)"],
};

/**
 * JSON as Python spells it.
 * @param {string} json
 */
const pythonLiteral = (json) =>
  json.replace(STRING, (whole, _, word) => PYTHON[word] ?? whole.replaceAll("\\/", "/"));

/**
 * @param {string} text
 * @param {string} space
 */
const indented = (text, space) => text.replaceAll("\n", `\n${space}`);

// -- JavaScript ---------------------------------------------------------------------------------

/** @param {Request} request */
function javascript(request) {
  return [
    `const root = ${JSON.stringify(request.root)};`,
    ...scriptHeaders(request),
    ...scriptCall(request),
    "if (!reply.ok) throw new Error((await reply.json()).detail);",
    ...SCRIPT_END[request.told](request),
  ].join("\n");
}

/** @param {Request} request */
function scriptHeaders({ needsKey, body }) {
  const headers = [
    needsKey ? "  Authorization: `Bearer ${process.env.UNIFIED_API_KEY}`," : null,
    body ? '  "Content-Type": "application/json",' : null,
  ].filter(Boolean);
  return headers.length ? ["const headers = {", ...headers, "};", ""] : [""];
}

/** @param {Request} request */
function scriptCall(request) {
  const options = [
    request.method === "GET" ? null : `method: "${request.method}"`,
    request.needsKey || request.body ? "headers" : null,
  ].filter(Boolean);
  const start = `const reply = await fetch(root + ${JSON.stringify(request.path)}`;
  if (!options.length) return [`${start});`];
  if (!request.body) return [`${start}, { ${options.join(", ")} });`];
  const body = indented(request.body, "  ");
  return [
    `${start}, {`,
    ...options.map((each) => `  ${each},`),
    `  body: JSON.stringify(${body}),`,
    "});",
  ];
}

/** @type {Record<Told, (request: Request) => string[]>} */
const SCRIPT_END = {
  job: ({ needsKey }) => [
    "let job = await reply.json();",
    'while (["pending", "processing"].includes(job.status)) {',
    '  const url = root + job.urls.self + "?wait=60";',
    `  job = await (await fetch(url${needsKey ? ", { headers }" : ""})).json();`,
    "}",
    "console.log(job.result_url ?? job.error);",
  ],
  stream: () => [
    "const text = reply.body.pipeThrough(new TextDecoderStream());",
    "for await (const part of text) console.log(part);",
  ],
  file: () => ["const file = await reply.blob();"],
  other: () => ["console.log(await reply.text());"],
};
