/** Rows that are changed in place: what stays keeps its element, its focus and its pictures. */

export class Rows {
  #rows = new Map();

  /** `fill(row, value)` puts a value into a copy of the template. */
  constructor(list, template, fill) {
    this.list = list;
    this.template = template;
    this.fill = fill;
  }

  /** Show these in their order; each is known by its `id`. */
  show(values) {
    this.#drop(new Set(values.map((value) => value.id)));
    values.forEach((value, place) => {
      const row = this.#rows.get(value.id) ?? this.#add(value.id);
      if (this.list.children[place] !== row) this.list.insertBefore(row, this.list.children[place] ?? null);
      this.fill(row, value);
    });
    hide(this.list, values.length === 0);
  }

  #add(id) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    row.dataset.id = id;
    this.#rows.set(id, row);
    return row;
  }

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

export const part = (row, name) => row.querySelector(`.${name}`);

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function hide(element, isHidden) {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}

/** Make an attribute so, or leave it out if it is null. */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A badge says a word in a colour: good, warn, bad, accent, or none. */
export function badge(element, text, colour) {
  say(element, text);
  for (const each of ["good", "warn", "bad", "accent"]) element.classList.toggle(each, each === colour);
}

const headingOf = (list) => list.closest("section")?.querySelector("h2");
