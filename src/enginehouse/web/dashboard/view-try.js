// A chat with the house, as any client would have it, and who answered and why. Owns the conversation, which this page
// forgets when it is left. May not live here: reading streams (`sse.js`).

import { fill, h, shown, text } from "./dom.js";
import { BASE } from "./feed.js";
import { NONE, milliseconds, seconds, short } from "./format.js";
import { events } from "./sse.js";
import { reasonInWords, serviceLink } from "./words.js";

export function tryView(store, { wanted }) {
  const model = h("select", { id: "model" });
  const limit = h("input", { id: "limit", type: "number", min: "1", max: "100000", value: "256" });
  const key = h("input", { id: "key", type: "password", autocomplete: "off", placeholder: "none" });
  const words = h("textarea", { id: "words", rows: "3", required: true, placeholder: "Say something. Enter sends, Shift+Enter makes a new line.", "aria-label": "Your message" });
  const talk = h("div.talk", { role: "log", "aria-label": "The conversation", "aria-live": "off" });
  const send = h("button.main", { type: "submit" }, "Send");
  const stop = h("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const anew = h("button", { type: "button", onclick: () => ((messages.length = 0), talk.replaceChildren(hint), words.focus()) }, "New chat");
  const hint = h("p.empty", {}, "What you write goes to the router's own /v1/chat/completions and is streamed back. Below each answer stands which service gave it, and why that one.");
  const settings = h("form.settings", { onsubmit: (event) => event.preventDefault() }, h("label", { for: "model" }, "Model"), model, h("label", { for: "limit" }, "At most"), h("span", {}, limit, " tokens"), h("label", { for: "key" }, "API key"), key);
  const form = h("form.say", { onsubmit: submitted }, words, h("div.buttons", {}, anew, stop, send));
  const root = h("div.stack.try", {}, h("h1", {}, "Try it"), h("div.card", {}, settings, talk, form));
  const messages = [];
  let running = null;
  talk.append(hint);

  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  async function submitted(event) {
    event.preventDefault();
    const content = words.value.trim();
    if (!content || running) return;
    hint.remove();
    words.value = "";
    messages.push({ role: "user", content });
    talk.append(h("div.said.user", {}, h("p", {}, content)));
    running = new AbortController();
    shown(stop, true);
    send.disabled = true;
    const answer = new Answer(talk);
    const asked = { model: model.value, messages, max_tokens: Number(limit.value) || 256, stream: true };
    const got = await answer.ask(asked, key.value, running.signal);
    if (got) messages.push({ role: "assistant", content: got });
    else messages.pop();
    running = null;
    shown(stop, false);
    send.disabled = false;
    words.focus();
  }

  function update() {
    const ids = [...store.models.keys()].sort();
    const before = model.value || wanted || mostServed(store);
    fill(model, ids.join("\n"), () => ids.map((id) => h("option", { value: id }, id)));
    if (ids.includes(before)) model.value = before;
    send.disabled = Boolean(running) || !ids.length;
    send.title = ids.length ? "" : "No model is served now.";
  }

  return { title: "Try it", root, update, close: () => running?.abort() };
}

/** The model that is most likely one to talk to. */
function mostServed(store) {
  return [...store.models.values()].sort((one, other) => other.services - one.services)[0]?.id;
}

/** One answer as it comes. */
class Answer {
  constructor(talk) {
    this.thought = h("p.thought", { hidden: true });
    this.words = h("p", { "aria-live": "polite" });
    this.facts = h("dl.facts");
    this.root = h("div.said.house", {}, this.thought, this.words, this.facts);
    talk.append(this.root);
    this.talk = talk;
    this.got = "";
    this.thinking = "";
    this.pieces = 0;
  }

  /** What was answered, "" where nothing was. */
  async ask(body, key, signal) {
    const began = performance.now();
    let first = null;
    let problem = "";
    let headers = new Headers();
    let usage = null;
    try {
      const authorization = key ? { authorization: `Bearer ${key}` } : {};
      const response = await fetch(new URL("v1/chat/completions", BASE), {
        method: "POST",
        headers: { "content-type": "application/json", ...authorization },
        body: JSON.stringify({ ...body, stream_options: { include_usage: true } }),
        signal,
      });
      headers = response.headers;
      this.#facts(headers, {});
      if (!response.ok) {
        const told = await response.json().catch(() => ({}));
        throw new Error(told.error?.message ?? `The answer was ${response.status}.`);
      }
      for await (const data of events(response)) {
        if (data === "[DONE]") break;
        const piece = JSON.parse(data);
        if (piece.error) throw new Error(piece.error.message ?? "The stream broke off.");
        usage = piece.usage ?? usage;
        if (this.#take(piece.choices?.[0]?.delta)) first ??= performance.now() - began;
      }
    } catch (error) {
      problem = error.name === "AbortError" ? "Stopped: the router ends the engine's work, too." : error.message;
    }
    const took = performance.now() - began;
    this.#facts(headers, { first, took, usage });
    if (problem) this.words.after(h("p.problem", { role: "alert" }, problem));
    this.#follow();
    return this.got;
  }

  #take(delta) {
    const [said, thought] = [delta?.content ?? "", delta?.reasoning_content ?? delta?.reasoning ?? ""];
    if (!said && !thought) return false;
    this.pieces += 1;
    this.got += said;
    this.thinking += thought;
    this.planned ??= requestAnimationFrame(() => {
      this.planned = null;
      if (this.thinking) text(this.thought, this.thinking);
      shown(this.thought, Boolean(this.thinking));
      if (this.got) text(this.words, this.got);
      this.#follow();
    });
    return true;
  }

  #follow() {
    this.talk.scrollTop = this.talk.scrollHeight;
  }

  #facts(headers, { first, took, usage }) {
    const of = (name) => headers.get(`x-enginehouse-${name}`);
    const tokens = usage?.completion_tokens ?? this.pieces;
    const speed = first !== undefined && first !== null && took > first ? tokens / ((took - first) / 1000) : null;
    const rows = [
      ["Answered by", of("service") ? serviceLink(of("service")) : NONE],
      ["Why", of("reason") ? reasonInWords(of("reason")) : NONE],
      ["First token", first === undefined ? "…" : first === null ? NONE : seconds(first / 1000)],
      ["Took", took === undefined ? "…" : seconds(took / 1000)],
      ["Tokens", usage ? `${short(usage.prompt_tokens)} → ${short(usage.completion_tokens)}` : this.pieces ? `about ${this.pieces}` : NONE],
      ["Tokens / s", speed ? short(speed) : NONE],
      ["Attempts", of("attempts") ?? NONE],
      ["Waited", of("queue-ms") ? milliseconds(Number(of("queue-ms"))) : NONE],
      ["Router", of("overhead-ms") ? milliseconds(Number(of("overhead-ms"))) : NONE],
      ["Request", headers.get("x-request-id") ?? NONE],
    ];
    this.facts.replaceChildren(...rows.flatMap(([title, value]) => [h("dt", {}, title), h("dd", {}, value)]));
  }
}
