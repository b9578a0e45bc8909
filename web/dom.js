/** Makes elements. What is put into them is text, never markup. */

/**
 * An element with properties, attributes and children; children that are null are left out.
 *
 * make("a", { className: "x", href: "#", "aria-label": "y" }, "text", make("b"))
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A text for append(), in which what stands between `backticks` is code. */
export const prose = (text) =>
  text.split("`").map((part, number) => (number % 2 ? make("code", {}, part) : part));

export const byId = (id) => document.getElementById(id);
