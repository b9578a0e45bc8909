/** The docs page: every operation of this server, to be found, read and tried. */

import { API, ask, getKey, refusal, setKey } from "./api.js";
import { contentOf } from "./card.js";
import { copied } from "./code.js";
import { byId, make, prose } from "./dom.js";
import { operationsOf, parseDocument } from "./schema.js";

const RUN = "Run a workflow";
const BELOW = "Batches, and jobs by workflow";

start();

async function start() {
  try {
    const reply = await ask("openapi.json", { cache: "no-cache" });
    if (!reply.ok) throw new Error(await refusal(reply));
    build(parseDocument(await reply.text()));
  } catch (error) {
    byId("state").className = "note bad";
    byId("state").textContent = `The API cannot be read: ${error.message}`;
  }
}

function build(document) {
  introduce(document);
  const operations = operationsOf(document);
  const cards = operations.map((operation) => new Card(document, operation));
  byId("operations").replaceChildren(...groupsOf(document, cards));
  byId("state").hidden = true;
  searching(cards);
  watchAccess(cards, document);
  goTo(cards);
  window.addEventListener("hashchange", () => goTo(cards));
}

function introduce(document) {
  byId("name").textContent = document.info.title;
  byId("version").textContent = document.info.version;
  window.document.title = `Docs · ${document.info.title}`;
  const base = API.href.replace(/\/$/, "");
  byId("base").textContent = base;
  byId("copy-base").addEventListener("click", ({ target }) => copied(target, base));
}

// -- cards ---------------------------------------------------------------------------------------

/** One operation. What is inside is made when it is opened. */
class Card {
  constructor(document, operation) {
    this.operation = operation;
    this.badge = make("span", { className: "badge bad", hidden: true }, "unavailable");
    this.problems = make("div", { className: "note bad", hidden: true });
    const properties = { className: "card operation", id: operation.id };
    this.element = make("details", properties, this.summary());
    this.element.addEventListener("toggle", () => this.toggled());
    this.make = () => contentOf(document, operation);
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
    if (this.content) return;
    this.content = make("div", { className: "content" }, this.make());
    this.element.append(this.problems, this.content);
  }

  tell(problems) {
    this.badge.hidden = this.problems.hidden = !problems.length;
    const list = make("ul", {}, problems.map((problem) => make("li", {}, problem)));
    this.problems.replaceChildren("Not available on this server now:", list);
  }
}

/** A path that may go on in the next line after each of its parts. */
const breakable = (path) => path.split(/(?=\/)/).flatMap((part) => [part, make("wbr")]);

function haystackOf(operation) {
  const fields = Object.keys(operation.body?.properties ?? {});
  const names = operation.parameters.map(({ name }) => name);
  const { method, path, title, description } = operation;
  return [method, path, title, description, ...fields, ...names].join(" ").toLowerCase();
}

function groupsOf(document, cards) {
  const slugs = new Set(cards.map(({ operation }) => operation.workflow).filter(Boolean));
  const groups = new Map([[RUN, []]]);
  for (const card of cards) {
    const { workflow, tag } = card.operation;
    const name = workflow ? RUN : slugs.has(tag) ? BELOW : tag;
    groups.set(name, [...(groups.get(name) ?? []), card]);
  }
  const last = [BELOW].filter((name) => groups.has(name));
  const order = [...[...groups.keys()].filter((name) => name !== BELOW), ...last];
  return order.map((name) => groupOf(name, groups.get(name)));
}

function groupOf(name, cards) {
  const elements = cards.map((card) => card.element);
  const title = make("h2", {}, name);
  return name === BELOW
    ? make("details", { className: "group" }, make("summary", {}, title), ...elements)
    : make("section", { className: "group" }, title, ...elements);
}

/** Open what the address names. */
function goTo(cards) {
  const name = decodeURIComponent(location.hash.slice(1));
  const card = cards.find(({ operation }) => operation.id === name);
  if (!card) return;
  card.open();
  card.element.closest("details.group")?.setAttribute("open", "");
  card.element.scrollIntoView();
}

// -- search --------------------------------------------------------------------------------------

function searching(cards) {
  const field = byId("search");
  field.addEventListener("input", () => filter(cards, field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") cards.find(({ element }) => !element.hidden)?.open();
  });
  window.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    field.focus();
  });
  filter(cards, field.value);
}

function filter(cards, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { element, words: haystack } of cards) {
    element.hidden = !words.every((word) => haystack.includes(word));
  }
  for (const group of byId("operations").children) {
    group.hidden = !group.querySelector("details.operation:not([hidden])");
    if (group.tagName === "DETAILS") group.open = words.length > 0;
  }
  const count = cards.filter(({ element }) => !element.hidden).length;
  byId("found").textContent = words.length ? `${count || "none"} of ${cards.length}` : "";
}

// -- the key, and what it lets one see -----------------------------------------------------------

function watchAccess(cards, document) {
  const needsKey = (document.security ?? []).length > 0;
  byId("access").hidden = !needsKey;
  byId("open").hidden = needsKey;
  byId("key").value = getKey();
  byId("access").addEventListener("submit", (event) => event.preventDefault());
  byId("key").addEventListener("change", () => {
    setKey(byId("key").value);
    look(cards);
  });
  byId("key").addEventListener("input", () => setKey(byId("key").value));
  if (!needsKey || getKey()) look(cards);
}

/** Ask which workflows can run now, which also tells whether the key is good. */
async function look(cards) {
  const state = byId("key-state");
  if (!byId("access").hidden && !getKey()) return void (state.textContent = "");
  const reply = await ask("workflows").catch(() => null);
  state.className = `hint ${reply?.ok ? "good" : "bad"}`;
  state.textContent = reply?.ok ? "This key is good." : await refusalOf(reply);
  if (!reply?.ok) return;
  const { data } = await reply.json();
  for (const { slug, health, problems } of data) {
    const card = cards.find(({ operation }) => operation.workflow === slug);
    card?.tell(health === "healthy" ? [] : problems);
  }
}

const refusalOf = (reply) => (reply ? refusal(reply) : "The server did not answer.");
