/** Shows how an operation is called, in the language that was chosen last. */

import { ROOT } from "./api.js";
import { coloured, copied } from "./code.js";
import { closest, make } from "./dom.js";
import { pathOf } from "./schema.js";
import { snippets } from "./snippets.js";

/** @import { DocsState } from "./docs-state.js" */
/** @import { Draft, Operation } from "./schema.js" */
/** @import { Request, Told } from "./snippets.js" */

/**
 * An element, and the function that shows it anew after `draft` has changed.
 * @param {Operation} operation
 * @param {Draft} draft
 * @param {DocsState} state
 */
export function examplesOf(operation, draft, state) {
  const panel = make("pre", { tabIndex: 0, role: "tabpanel" });
  const tabs = Object.keys(snippets(requestOf(operation, draft))).map((language) =>
    make("button", { type: "button", role: "tab", className: "tab" }, language),
  );
  const refresh = () => {
    mark(tabs, state.language);
    const program = snippets(requestOf(operation, draft))[state.language] ?? "";
    panel.setAttribute("aria-label", `${state.language} example`);
    panel.replaceChildren(...coloured(program));
  };
  state.onLanguage(refresh);
  refresh();
  const labels = { className: "examples", "aria-label": "Examples" };
  const head = make("div", { className: "tabs" }, tabList(tabs, state), copyButton(panel));
  return { element: make("section", labels, head, panel), refresh };
}

/** @param {HTMLElement} panel */
function copyButton(panel) {
  const button = make("button", { type: "button", className: "small copy" }, "Copy");
  button.addEventListener("click", () => copied(button, panel.textContent ?? ""));
  return button;
}

/**
 * @param {HTMLElement[]} tabs
 * @param {DocsState} state
 */
function tabList(tabs, state) {
  const list = make("div", { role: "tablist", "aria-label": "Language" }, ...tabs);
  list.addEventListener("click", (event) => choose(closest(event, "[role=tab]"), state));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const place = tabs.findIndex((tab) => tab === event.target);
    const next = tabs[(place + step + tabs.length) % tabs.length] ?? null;
    choose(next, state);
    next?.focus();
  });
  return list;
}

/**
 * @param {HTMLElement | null} tab
 * @param {DocsState} state
 */
function choose(tab, state) {
  if (tab) state.language = tab.textContent ?? "";
}

/**
 * @param {HTMLElement[]} tabs
 * @param {string} language
 */
function mark(tabs, language) {
  for (const tab of tabs) {
    const isChosen = tab.textContent === language;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
  }
}

/**
 * @param {Operation} operation
 * @param {Draft} draft
 * @returns {Request}
 */
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

/**
 * @param {Operation} operation
 * @returns {Told}
 */
function toldBy(operation) {
  if (operation.workflow) return "job";
  const types = Object.keys(operation.responses["200"]?.content ?? {});
  if (types.includes("text/event-stream")) return "stream";
  return types.some((type) => type === "*/*" || type.startsWith("image/")) ? "file" : "other";
}
