/** Shows how an operation is called, in the language that was chosen last. */

import { ROOT } from "./api.js";
import { coloured, copied } from "./code.js";
import { make } from "./dom.js";
import { pathOf } from "./schema.js";
import { snippets } from "./snippets.js";

const LANGUAGE = "language";

/** An element, and the function that shows it anew after `draft` has changed. */
export function examplesOf(operation, draft) {
  const panel = make("pre", { tabIndex: 0, role: "tabpanel" });
  const tabs = Object.keys(snippets(requestOf(operation, draft))).map((language) =>
    make("button", { type: "button", role: "tab", className: "tab" }, language),
  );
  const copy = make("button", { type: "button", className: "small copy" }, "Copy");
  const list = make("div", { role: "tablist", "aria-label": "Language" }, ...tabs);
  const element = make(
    "section",
    { className: "examples", "aria-label": "Examples" },
    make("div", { className: "tabs" }, list, copy),
    panel,
  );
  const refresh = () => show(element, snippets(requestOf(operation, draft))[language()]);
  list.addEventListener("click", ({ target }) => choose(target.closest("[role=tab]")));
  list.addEventListener("keydown", (event) => step(event, tabs));
  copy.addEventListener("click", () => copied(copy, panel.textContent));
  window.addEventListener(LANGUAGE, refresh);
  refresh();
  return { element, refresh };
}

function show(element, program) {
  for (const tab of element.querySelectorAll("[role=tab]")) {
    const isChosen = tab.textContent === language();
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
  }
  const panel = element.querySelector("pre");
  panel.setAttribute("aria-label", `${language()} example`);
  panel.replaceChildren(...coloured(program));
}

let chosen = "curl";
const language = () => chosen;

/** One choice for all cards. */
function choose(tab) {
  if (!tab) return;
  chosen = tab.textContent;
  window.dispatchEvent(new Event(LANGUAGE));
}

function step(event, tabs) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const next = tabs[(tabs.indexOf(event.target) + by + tabs.length) % tabs.length];
  choose(next);
  next.focus();
}

function requestOf(operation, draft) {
  return {
    method: operation.method,
    root: ROOT,
    path: pathOf(operation, draft.values),
    body: draft.body.trim() || null,
    needsKey: operation.needsKey,
    file: operation.files[0] ?? null,
    told: toldBy(operation),
  };
}

function toldBy(operation) {
  if (operation.workflow) return "job";
  const types = Object.keys(operation.responses[200]?.content ?? {});
  if (types.includes("text/event-stream")) return "stream";
  return types.some((type) => type === "*/*" || type.startsWith("image/")) ? "file" : "other";
}
