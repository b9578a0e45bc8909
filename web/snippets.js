/** Writes requests as programs: for the shell, in Python and in JavaScript. */

const STRING = /("(?:\\.|[^"\\])*")|\b(true|false|null)\b/g;
const PYTHON = { true: "True", false: "False", null: "None" };

/**
 * The programs by language. `request` has the method, `root` (where paths begin), `path` (with its
 * query), `body` as JSON text or null, `needsKey`, the name of a field that takes a `file`, and
 * what is `told`: a job, a stream, a file or anything else.
 */
export function snippets(request) {
  return { curl: curl(request), Python: python(request), JavaScript: javascript(request) };
}

// -- curl ---------------------------------------------------------------------------------------

const CURL = { stream: " -N", file: " -L -o result" };

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

function formFields({ body, file }) {
  const told = Object.entries(parsed(body) ?? {}).filter(([name, value]) => {
    return name !== file && value !== null;
  });
  return told.map(([name, value]) => [name, asText(value)]);
}

/** A value as a form carries it. */
export const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

const verb = ({ method, body }) => (method === "GET" || body ? "" : ` -X ${method}`);
const url = ({ root, path }) => quoted(root + path);
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const lines = (parts) => parts.filter(Boolean).join(" \\\n  ");

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// -- Python -------------------------------------------------------------------------------------

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

const pythonKey = ({ needsKey }) => (needsKey ? ", headers=headers" : "");

/** The end of a program for each kind of answer. */
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

/** JSON as Python spells it. */
const pythonLiteral = (json) =>
  json.replace(STRING, (whole, _, word) => (word ? PYTHON[word] : whole.replaceAll("\\/", "/")));

const indented = (text, space) => text.replaceAll("\n", `\n${space}`);

// -- JavaScript ---------------------------------------------------------------------------------

function javascript(request) {
  return [
    `const root = ${JSON.stringify(request.root)};`,
    ...scriptHeaders(request),
    ...scriptCall(request),
    "if (!reply.ok) throw new Error((await reply.json()).detail);",
    ...SCRIPT_END[request.told](request),
  ].join("\n");
}

function scriptHeaders({ needsKey, body }) {
  const headers = [
    needsKey ? "  Authorization: `Bearer ${process.env.UNIFIED_API_KEY}`," : null,
    body ? '  "Content-Type": "application/json",' : null,
  ].filter(Boolean);
  return headers.length ? ["const headers = {", ...headers, "};", ""] : [""];
}

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
