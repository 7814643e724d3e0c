// What the page may order, with a token: draining a service, taking it back, reading log lines. Owns the token, which
// this tab keeps for itself until it is closed, and the question for it. May not live here: who is ordered about.

import { h, shown, text } from "./dom.js";
import { BASE } from "./feed.js";

const KEPT = "enginehouse.token";

export class Actions {
  /** `button` opens the question for the token. */
  constructor(button) {
    this.button = button;
    this.possible = false;
    button.addEventListener("click", () => this.ask());
    this.#mark();
  }

  /** Whether the router takes orders at all. */
  allowed(possible) {
    this.possible = possible;
    shown(this.button, possible);
  }

  get token() {
    return sessionStorage.getItem(KEPT) ?? "";
  }

  set token(value) {
    if (value) sessionStorage.setItem(KEPT, value);
    else sessionStorage.removeItem(KEPT);
    this.#mark();
  }

  #mark() {
    text(this.button, this.token ? "Actions: on" : "Actions");
    this.button.title = this.token ? "This tab holds the token; press to forget it" : "Drain services and read log lines: give the token";
  }

  /** Headers of a request that needs the token. */
  get headers() {
    return this.token ? { authorization: `Bearer ${this.token}` } : {};
  }

  /** Ask for the token; resolves when there is one, or to "" when nobody gave it. */
  ask(problem = "") {
    const input = h("input", { type: "password", autocomplete: "off", required: true, id: "token", spellcheck: "false" });
    const forget = h("button", { type: "button", onclick: () => ((this.token = ""), dialog.close("")) }, "Forget it");
    const dialog = h(
      "dialog",
      { "aria-labelledby": "asking" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "asking" }, "The token for actions"),
        problem ? h("p.problem", { role: "alert" }, problem) : null,
        h("p.soft", {}, "It stands in the file that ", h("code", {}, "admin_token_file"), " of the router names. Only this tab keeps it, until it is closed."),
        h("label", { for: "token" }, "Token"),
        input,
        h("div.buttons", {}, this.token ? forget : null, h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), h("button.main", { type: "submit" }, "Keep it for this tab")),
      ),
    );
    return new Promise((resolve) => {
      dialog.addEventListener("submit", () => (this.token = input.value.trim()));
      dialog.addEventListener("close", () => {
        dialog.remove();
        resolve(this.token);
      });
      document.body.append(dialog);
      dialog.showModal();
      input.focus();
    });
  }

  /** Order something: the answer as JSON, or an `Error` fit to be shown; null where no token was given. */
  async order(path, body) {
    for (let problem = ""; ; problem = "The router does not take this token.") {
      if ((problem || !this.token) && !(await this.ask(problem))) return null;
      const response = await fetch(new URL(`dashboard/actions/${path}`, BASE), {
        method: "POST",
        headers: { "content-type": "application/json", ...this.headers },
        body: JSON.stringify(body),
      });
      if (response.status === 401) {
        this.token = "";
        continue;
      }
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.error?.message ?? `The router answered ${response.status}.`);
      return answer;
    }
  }
}
