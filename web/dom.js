/** Makes and finds elements. What is put into them is text, never markup. */

/** @typedef {string | Node | null | undefined} Child */

/**
 * An element with properties, attributes and children; children that are null are left out.
 *
 * make("a", { className: "x", href: "#", "aria-label": "y" }, "text", make("b"))
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} properties
 * @param {(Child | Child[])[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name in element) Reflect.set(element, name, value);
    else element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * A text for append(), in which what stands between `backticks` is code.
 * @param {string} text
 */
export const prose = (text) =>
  text.split("`").map((part, number) => (number % 2 ? make("code", {}, part) : part));

/**
 * The element with an id, which must be of a class.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {{ new (): T, prototype: T }} [kind]
 * @returns {T}
 */
export const byId = (id, kind) => checked(document.getElementById(id), id, kind);

/**
 * The element of a class name inside another one, which must be of a class.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {Element} element
 * @param {string} name
 * @param {{ new (): T, prototype: T }} [kind]
 * @returns {T}
 */
export const part = (element, name, kind) =>
  checked(element.querySelector(`.${name}`), `.${name}`, kind);

/**
 * The element around the place of an event that a selector matches, if there is one.
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
export const closest = (event, selector) =>
  event.target instanceof Element ? event.target.closest(selector) : null;

/**
 * @template {HTMLElement} T
 * @param {Element | null} element
 * @param {string} name
 * @param {{ new (): T, prototype: T }} [kind]
 * @returns {T}
 */
function checked(element, name, kind) {
  const expected = kind ?? HTMLElement;
  if (!(element instanceof expected)) throw new Error(`${name} is no ${expected.name}.`);
  return /** @type {T} */ (element);
}
