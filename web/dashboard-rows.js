/** Rows that are changed in place: what stays keeps its element, its focus and its pictures. */

import { byId } from "./dom.js";

/** @template {{ id: string }} V */
export class Rows {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();

  /**
   * `fill(row, value)` puts a value into a copy of the template.
   * @param {HTMLElement} list
   * @param {HTMLTemplateElement} template
   * @param {(row: HTMLElement, value: V) => void} fill
   */
  constructor(list, template, fill) {
    this.list = list;
    this.template = template;
    this.fill = fill;
  }

  /**
   * Show these in their order; each is known by its `id`.
   * @param {V[]} values
   */
  show(values) {
    this.#drop(new Set(values.map((value) => value.id)));
    values.forEach((value, place) => {
      const row = this.#rows.get(value.id) ?? this.#add(value.id);
      const there = this.list.children[place];
      if (there !== row) this.list.insertBefore(row, there ?? null);
      this.fill(row, value);
    });
    hide(this.list, values.length === 0);
  }

  /** @param {string} id */
  #add(id) {
    const [row] = document.importNode(this.template.content, true).children;
    if (!(row instanceof HTMLElement)) throw new Error(`${this.template.id} is empty.`);
    row.dataset.id = id;
    this.#rows.set(id, row);
    return row;
  }

  /** @param {Set<string>} staying */
  #drop(staying) {
    for (const [id, row] of this.#rows) {
      if (staying.has(id)) continue;
      // Who was on it with the keyboard stays near.
      if (row.contains(document.activeElement)) headingOf(this.list)?.focus({ preventScroll: true });
      row.remove();
      this.#rows.delete(id);
    }
  }
}

/** @param {string} id */
export const template = (id) => byId(id, HTMLTemplateElement);

/**
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {HTMLElement} element
 * @param {boolean} isHidden
 */
export function hide(element, isHidden) {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}

/**
 * Make an attribute so, or leave it out if it is null.
 * @param {Element} element
 * @param {string} name
 * @param {string | null} value
 */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * A badge says a word in a colour: good, warn, bad, accent, or none.
 * @param {Element} element
 * @param {string} text
 * @param {string} colour
 */
export function badge(element, text, colour) {
  say(element, text);
  for (const each of ["good", "warn", "bad", "accent"]) element.classList.toggle(each, each === colour);
}

/** @param {Element} list */
const headingOf = (list) => list.closest("section")?.querySelector("h2");
