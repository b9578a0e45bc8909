/** Asks for a key where the server wants one, and forgets it again: the same on every page. */

import { byId } from "./dom.js";

/** @import { Api } from "./api.js" */

const WRONG_KEY = "This key does not open. Check it, and try again.";
const REVOKE_MS = 10_000;

export class Login {
  #api;
  #onForget;

  /**
   * `onKey()` is called when a key was entered, `onForget()` when what it has shown must go.
   * @param {Api} api
   * @param {{ onKey: () => void, onForget: () => void }} handlers
   */
  constructor(api, { onKey, onForget }) {
    this.#api = api;
    this.#onForget = onForget;
    byId("forget").hidden = !api.key;
    byId("forget").addEventListener("click", () => this.logOut());
    byId("door").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId("key", HTMLInputElement);
      api.setKey(field.value);
      field.value = "";
      onKey();
    });
  }

  get isOpen() {
    return byId("door").hidden;
  }

  /** Show the page, since the server answers. */
  open() {
    byId("inside").hidden = false;
    byId("door").hidden = true;
    byId("forget").hidden = !this.#api.key;
  }

  /**
   * The server refused a request. If that is about the key, the key is forgotten and asked for.
   * @param {{ status: number, message: string }} refused
   */
  refused({ status, message }) {
    const { key } = this.#api;
    if (status === 401 || (status === 403 && key)) this.logOut();
    const reason = status !== 401 ? message : key ? WRONG_KEY : "";
    byId("trouble").textContent = reason;
    byId("trouble").hidden = !reason;
  }

  /** Forget the key, and all that it has shown. */
  logOut() {
    this.#api.setKey("");
    this.#onForget();
    byId("inside").hidden = true;
    byId("forget").hidden = true;
    byId("door").hidden = false;
    byId("key").focus();
  }
}

/**
 * Have a link to the OpenAPI document send the key, if there is one: by itself it sends none.
 * @param {Api} api
 */
export function sendKeyWithDocumentLink(api) {
  const link = byId("document", HTMLAnchorElement);
  link.addEventListener("click", async (event) => {
    if (!api.key) return;
    event.preventDefault();
    const reply = await api.ask("openapi.json", { cache: "no-cache" }).catch(() => null);
    if (reply?.ok) download(await reply.blob(), "openapi.json");
    // There the server says why.
    else location.assign(link.href);
  });
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), REVOKE_MS);
}
