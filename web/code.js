/** Shows programs and JSON, and copies them. */

import { make } from "./dom.js";

/** What is marked in JSON and in programs of all three languages, by kind. */
const TOKENS = {
  text: /"(?:\\.|[^"\\])*"|'[^']*'|`[^`]*`/,
  remark: /(?:^|\s)#.*$/,
  word: /\b(?:import|while|for|in|print|const|let|await|throw|new|if|with|as|open)\b/,
  value: /\b(?:\d+(?:\.\d+)?|true|false|null|True|False|None)\b/,
};
const TOKEN = new RegExp(
  Object.entries(TOKENS)
    .map(([kind, token]) => `(?<${kind}>${token.source})`)
    .join("|"),
  "gm",
);

/**
 * A program as text with its words marked.
 * @param {string} program
 */
export function coloured(program) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let end = 0;
  for (const found of program.matchAll(TOKEN)) {
    parts.push(program.slice(end, found.index));
    const kind = Object.keys(TOKENS).find((each) => found.groups?.[each] !== undefined);
    parts.push(make("span", { className: `token-${kind}` }, found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, program.slice(end)];
}

/** @param {string} text */
export const code = (text) => make("pre", { tabIndex: 0 }, ...coloured(text));

/**
 * @param {HTMLElement} button
 * @param {string} text
 */
export async function copied(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Pages that came by plain http from another machine may not write there.
    button.textContent = fallbackCopied(text) ? "Copied" : "Not allowed";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/** @param {string} text */
function fallbackCopied(text) {
  const area = make("textarea", { className: "spoken", value: text });
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  return isDone;
}
