/** How each part of the service is, and each workflow. */

import { answer, read } from "./dashboard-jobs.js";
import { Rows, badge, hide, part, say } from "./dashboard-rows.js";
import { plain } from "./dashboard-words.js";
import { byId, make } from "./dom.js";

const COLOURS = { healthy: "good", degraded: "warn", unhealthy: "bad" };

const template = byId("state-row");
const parts = new Rows(byId("parts"), template, fill);
const workflows = new Rows(byId("workflows"), template, fill);
const choice = byId("filters").elements.workflow;

/** Ask, and show the answers. */
export async function refreshHealth() {
  // An unhealthy service answers with 503 what an healthy one does with 200.
  const health = await (await answer("health", { cache: "no-store" })).json();
  const { data } = await read("workflows");
  showOverall(health.status);
  parts.show(
    Object.entries(health.components).map(([name, { status, reason }]) => ({
      id: name,
      name: plain(name),
      state: status,
      reasons: reason ? [reason] : [],
    })),
  );
  workflows.show(
    data.map(({ slug, title, health: state, problems }) => ({
      id: slug,
      name: title ?? slug,
      state,
      reasons: problems,
    })),
  );
  offer(data.map(({ slug }) => slug));
}

function fill(row, { name, state, reasons }) {
  say(part(row, "name"), name);
  badge(part(row, "badge"), state, COLOURS[state]);
  say(part(row, "reason"), reasons.length === 1 ? reasons[0] : "");
  hide(part(row, "reason"), reasons.length !== 1);
  fillReasons(part(row, "reasons"), reasons);
}

/** Several stay folded until somebody wants to read them. */
function fillReasons(details, reasons) {
  hide(details, reasons.length < 2);
  say(details.querySelector("summary"), `${reasons.length} reasons`);
  const list = details.querySelector("ul");
  if (list.dataset.told === reasons.join()) return;
  list.dataset.told = reasons.join();
  list.replaceChildren(...reasons.map((reason) => make("li", {}, reason)));
}

function showOverall(status) {
  const overall = byId("overall");
  badge(overall, status, COLOURS[status]);
  hide(overall, false);
}

/** The workflows that one can filter by; what is chosen stays. */
function offer(slugs) {
  const there = new Set([...choice.options].map((option) => option.value));
  choice.append(...slugs.filter((slug) => !there.has(slug)).map((slug) => make("option", {}, slug)));
}
