/** What the cards of the docs page share. */

import { Api } from "./api.js";

const LANGUAGE = "language";

export class DocsState {
  api = new Api();
  /** Id of the job begun last, so that it need not be typed where one is asked for. */
  lastJob = "";
  #language = "curl";
  #changes = new EventTarget();

  /** The language of the examples, one for all cards. */
  get language() {
    return this.#language;
  }

  set language(name) {
    this.#language = name;
    this.#changes.dispatchEvent(new Event(LANGUAGE));
  }

  /** @param {() => void} listener */
  onLanguage(listener) {
    this.#changes.addEventListener(LANGUAGE, listener);
  }
}
