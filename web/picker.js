/** Where one chooses a picture for a field. */

import { make } from "./dom.js";
import { samplePicture } from "./sample.js";

/** Names that are kept for examples: no picture is ever found there. */
const NOWHERE = /^https?:\/\/([\w-]+\.)*example\.(com|net|org)\//i;

export class Picker {
  /** Whether a sample was put here without being asked for. */
  #isStandIn = false;

  /**
   * @param {string} name
   * @param {string} id
   */
  constructor(name, id) {
    this.name = name;
    this.input = make("input", { type: "file", id, accept: "image/png,image/jpeg,image/webp" });
    this.hint = make("p", { className: "quiet hint" });
    this.input.addEventListener("change", () => this.chosen());
    this.chosen();
  }

  get file() {
    return this.input.files?.[0] ?? null;
  }

  row() {
    const sample = make("button", { type: "button", className: "small" }, "Use a sample");
    sample.addEventListener("click", () => this.put(samplePicture()));
    const label = make("label", { htmlFor: this.input.id }, `A picture for ${this.name}`);
    const pick = make("div", { className: "pick" }, this.input, sample);
    return make("div", { className: "row" }, label, pick, this.hint);
  }

  /**
   * The body names this URL: a sample stands in for one that leads nowhere.
   * @param {string} url
   */
  named(url) {
    const isNeeded = NOWHERE.test(url);
    if (isNeeded && !this.file) {
      this.put(samplePicture());
      this.#isStandIn = true;
    }
    if (!isNeeded && this.#isStandIn) this.put();
  }

  /** @param {File[]} files */
  put(...files) {
    const transfer = new DataTransfer();
    files.forEach((file) => transfer.items.add(file));
    this.input.files = transfer.files;
    this.chosen();
  }

  chosen() {
    this.#isStandIn = false;
    this.hint.textContent = this.file
      ? `${this.file.name} is sent as ${this.name}, whatever the body says.`
      : `Or name a URL as ${this.name} below.`;
  }
}
