/** How each part of the service is, and each workflow. */

import { answer, read } from "./dashboard-jobs.js";
import { Rows, badge, hide, say, template } from "./dashboard-rows.js";
import { plain } from "./dashboard-words.js";
import { byId, make, part } from "./dom.js";

/** @import { Api } from "./api.js" */

/**
 * One line of a list.
 * @typedef {{ id: string, name: string, state: HealthState, reasons: string[] }} Line
 */

const COLOURS = { healthy: "good", degraded: "warn", unhealthy: "bad" };

export class HealthLists {
  #api;
  #parts = new Rows(byId("parts"), template("state-row"), fill);
  #workflows = new Rows(byId("workflows"), template("state-row"), fill);

  /** @param {Api} api */
  constructor(api) {
    this.#api = api;
  }

  /** Ask, and show the answers. */
  async refresh() {
    // An unhealthy service answers with 503 what a healthy one does with 200.
    const reply = await answer(this.#api, "health", { cache: "no-store" });
    /** @type {Health} */
    const health = await reply.json();
    /** @type {{ data: WorkflowView[] }} */
    const { data } = await read(this.#api, "workflows");
    showOverall(health.status);
    this.#parts.show(Object.entries(health.components).map(lineOfPart));
    this.#workflows.show(data.map(lineOfWorkflow));
    offer(data.map(({ slug }) => slug));
  }

  clear() {
    hide(byId("overall"), true);
    this.#parts.show([]);
    this.#workflows.show([]);
  }
}

/**
 * @param {[string, Health["components"][string]]} component
 * @returns {Line}
 */
const lineOfPart = ([name, { status, reason }]) => ({
  id: name,
  name: plain(name),
  state: status,
  reasons: reason ? [reason] : [],
});

/**
 * @param {WorkflowView} workflow
 * @returns {Line}
 */
const lineOfWorkflow = ({ slug, title, health, problems }) => ({
  id: slug,
  name: title ?? slug,
  state: health,
  reasons: problems,
});

/**
 * @param {HTMLElement} row
 * @param {Line} line
 */
function fill(row, { name, state, reasons }) {
  const [first = ""] = reasons;
  say(part(row, "name"), name);
  badge(part(row, "badge"), state, COLOURS[state]);
  say(part(row, "reason"), reasons.length === 1 ? first : "");
  hide(part(row, "reason"), reasons.length !== 1);
  fillReasons(part(row, "reasons"), reasons);
}

/**
 * Several stay folded until somebody wants to read them.
 * @param {HTMLElement} details
 * @param {string[]} reasons
 */
function fillReasons(details, reasons) {
  hide(details, reasons.length < 2);
  const [summary, list] = details.children;
  if (!summary || !list || details.dataset.told === reasons.join()) return;
  details.dataset.told = reasons.join();
  summary.textContent = `${reasons.length} reasons`;
  list.replaceChildren(...reasons.map((reason) => make("li", {}, reason)));
}

/** @param {HealthState} status */
function showOverall(status) {
  const overall = byId("overall");
  badge(overall, status, COLOURS[status]);
  hide(overall, false);
}

/**
 * The workflows that one can filter by; what is chosen stays.
 * @param {string[]} slugs
 */
function offer(slugs) {
  const choice = byId("workflow-filter", HTMLSelectElement);
  const there = new Set([...choice.options].map((option) => option.value));
  choice.append(...slugs.filter((slug) => !there.has(slug)).map((slug) => make("option", {}, slug)));
}
