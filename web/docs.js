/** The docs page: every operation of this server, to be found, read and tried. */

import { API, refusal } from "./api.js";
import { contentOf } from "./card.js";
import { copied } from "./code.js";
import { DocsState } from "./docs-state.js";
import { byId, closest, make, prose } from "./dom.js";
import { Login, sendKeyWithDocumentLink } from "./login.js";
import { operationsOf, parseDocument } from "./schema.js";

/** @import { Operation } from "./schema.js" */

const RUN = "Run a workflow";
const BELOW = "Batches, and jobs by workflow";

class DocsPage {
  #state = new DocsState();
  #api = this.#state.api;
  #login = new Login(this.#api, { onKey: () => this.#load(), onForget: () => this.#clear() });
  /** @type {Card[]} */
  #cards = [];

  start() {
    const base = API.href.replace(/\/$/, "");
    byId("base").textContent = base;
    byId("copy-base").addEventListener("click", () => copied(byId("copy-base"), base));
    window.addEventListener("hashchange", () => goTo(this.#cards));
    sendKeyWithDocumentLink(this.#api);
    searching(() => this.#cards);
    this.#load();
  }

  async #load() {
    const { session } = this.#api;
    tell("Loading…");
    try {
      const reply = await this.#api.ask("openapi.json", { cache: "no-cache" });
      if (reply.ok) this.#build(parseDocument(await reply.text()));
      else this.#onRefusal(reply.status, await refusal(reply));
    } catch (error) {
      const reason = error instanceof Error ? error.message : `${error}`;
      if (!session.aborted) tell(`The API cannot be read: ${reason}`, "bad");
    }
  }

  /**
   * @param {number} status
   * @param {string} message
   */
  #onRefusal(status, message) {
    tell("");
    this.#login.refused({ status, message });
  }

  /** @param {OpenApiDocument} document */
  #build(document) {
    introduce(document);
    const operations = operationsOf(document);
    this.#cards = operations.map((operation) => new Card(document, operation, this.#state));
    byId("operations").replaceChildren(...groupsOf(this.#cards));
    byId("open").hidden = (document.security ?? []).length > 0;
    tell("");
    byId("trouble").hidden = true;
    this.#login.open();
    filter(this.#cards, byId("search", HTMLInputElement).value);
    goTo(this.#cards);
    this.#showProblems();
  }

  /** Show which workflows cannot run now. */
  async #showProblems() {
    const reply = await this.#api.ask("workflows").catch(() => null);
    if (reply?.ok) tellProblems(this.#cards, (await reply.json()).data);
  }

  #clear() {
    this.#cards = [];
    byId("operations").replaceChildren();
    byId("trouble").hidden = true;
  }
}

/**
 * Say how far the page is.
 * @param {string} text
 */
function tell(text, tone = "") {
  byId("state").className = `note ${tone}`;
  byId("state").textContent = text;
  byId("state").hidden = !text;
}

/** @param {OpenApiDocument} document */
function introduce(document) {
  byId("name").textContent = document.info.title;
  byId("version").textContent = document.info.version;
  window.document.title = `Docs · ${document.info.title}`;
}

// -- cards ---------------------------------------------------------------------------------------

/** One operation. What is inside is made when it is opened. */
class Card {
  /** @type {HTMLElement | null} */
  #content = null;

  /**
   * @param {OpenApiDocument} document
   * @param {Operation} operation
   * @param {DocsState} state
   */
  constructor(document, operation, state) {
    this.operation = operation;
    this.badge = make("span", { className: "badge bad", hidden: true }, "unavailable");
    this.problems = make("div", { className: "note bad", hidden: true });
    const properties = { className: "card operation", id: operation.id };
    this.element = make("details", properties, this.summary());
    this.element.addEventListener("toggle", () => this.toggled());
    this.make = () => contentOf(document, operation, state);
    this.words = haystackOf(operation);
  }

  summary() {
    const { method, title, path, workflow, description } = this.operation;
    return make(
      "summary",
      {},
      make("span", { className: `method ${method.toLowerCase()}` }, method),
      make("h3", {}, title),
      this.badge,
      make("code", { className: "path quiet" }, ...breakable(path)),
      workflow ? make("span", { className: "gist quiet" }, prose(description)) : null,
    );
  }

  open() {
    // At once: the event comes only after the empty card has been seen.
    this.fill();
    this.element.open = true;
  }

  toggled() {
    if (!this.element.open) return;
    this.fill();
    history.replaceState(null, "", `#${this.operation.id}`);
  }

  fill() {
    if (this.#content) return;
    this.#content = make("div", { className: "content" }, this.make());
    this.element.append(this.problems, this.#content);
  }

  /** @param {string[]} problems */
  tell(problems) {
    this.badge.hidden = this.problems.hidden = !problems.length;
    const list = make("ul", {}, problems.map((problem) => make("li", {}, problem)));
    this.problems.replaceChildren("Not available on this server now:", list);
  }
}

/**
 * A path that may go on in the next line after each of its parts.
 * @param {string} path
 */
const breakable = (path) => path.split(/(?=\/)/).flatMap((part) => [part, make("wbr")]);

/** @param {Operation} operation */
function haystackOf(operation) {
  const fields = Object.keys(operation.body?.properties ?? {});
  const names = operation.parameters.map(({ name }) => name);
  const { method, path, title, description } = operation;
  return [method, path, title, description, ...fields, ...names].join(" ").toLowerCase();
}

/** @param {Card[]} cards */
function groupsOf(cards) {
  const slugs = new Set(cards.map(({ operation }) => operation.workflow).filter(Boolean));
  /** @type {Map<string, Card[]>} */
  const groups = new Map([[RUN, []]]);
  for (const card of cards) {
    const { workflow, tag } = card.operation;
    const name = workflow ? RUN : slugs.has(tag) ? BELOW : tag;
    groups.set(name, [...(groups.get(name) ?? []), card]);
  }
  const ordered = [...groups].sort(([one], [other]) => Number(one === BELOW) - Number(other === BELOW));
  return ordered.map(([name, members]) => groupOf(name, members));
}

/**
 * @param {string} name
 * @param {Card[]} cards
 */
function groupOf(name, cards) {
  const elements = cards.map((card) => card.element);
  const title = make("h2", {}, name);
  return name === BELOW
    ? make("details", { className: "group" }, make("summary", {}, title), ...elements)
    : make("section", { className: "group" }, title, ...elements);
}

/**
 * Open what the address names.
 * @param {Card[]} cards
 */
function goTo(cards) {
  const name = decodeURIComponent(location.hash.slice(1));
  const card = cards.find(({ operation }) => operation.id === name);
  if (!card) return;
  card.open();
  card.element.closest("details.group")?.setAttribute("open", "");
  card.element.scrollIntoView();
}

// -- search --------------------------------------------------------------------------------------

/** @param {() => Card[]} cards */
function searching(cards) {
  const field = byId("search", HTMLInputElement);
  field.addEventListener("input", () => filter(cards(), field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") cards().find(({ element }) => !element.hidden)?.open();
  });
  window.addEventListener("keydown", (event) => {
    if (event.key !== "/" || closest(event, "input, textarea, select")) return;
    event.preventDefault();
    field.focus();
  });
}

/**
 * @param {Card[]} cards
 * @param {string} text
 */
function filter(cards, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { element, words: haystack } of cards) {
    element.hidden = !words.every((word) => haystack.includes(word));
  }
  for (const group of byId("operations").children) {
    const isEmpty = !group.querySelector("details.operation:not([hidden])");
    group.toggleAttribute("hidden", isEmpty);
    if (group instanceof HTMLDetailsElement) group.open = words.length > 0;
  }
  const count = cards.filter(({ element }) => !element.hidden).length;
  byId("found").textContent = words.length ? `${count || "none"} of ${cards.length}` : "";
}

// -- what can run --------------------------------------------------------------------------------

/**
 * @param {Card[]} cards
 * @param {WorkflowView[]} workflows
 */
function tellProblems(cards, workflows) {
  for (const { slug, health, problems } of workflows) {
    const card = cards.find(({ operation }) => operation.workflow === slug);
    card?.tell(health === "healthy" ? [] : problems);
  }
}

new DocsPage().start();
