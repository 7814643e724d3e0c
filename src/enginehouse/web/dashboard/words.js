// What the router's terms mean, in plain words, and the little pieces that many views show: a state, a load, a link.
// May not live here: whole views.

import { attribute, h, text } from "./dom.js";
import { NONE, count } from "./format.js";

const STATES = {
  up: ["●", "up", "takes requests"],
  down: ["■", "down", "probes fail: it gets no requests"],
  ejected: ["▲", "ejected", "too many of its requests failed: it gets none for a while"],
  trial: ["△", "on trial", "it was ejected; how its next request ends decides"],
  returning: ["◑", "returning", "it takes requests again: a growing part of them"],
  unknown: ["○", "unknown", "it was not probed yet"],
  withdrawn: ["◌", "withdrawn", "it is registered as one that takes no requests"],
  drained: ["◔", "drained", "it gets no requests and has none left: it may be stopped"],
  draining: ["◐", "draining", "it gets no new requests; running ones finish"],
};

export const stateName = (state) => (STATES[state] ?? STATES.unknown)[1];

/** A state: shape, word and colour, so that it can be told without seeing colours. */
export class State {
  constructor() {
    this.sign = h("i", { "aria-hidden": "true" });
    this.word = h("span");
    this.root = h("span.state", {}, this.sign, this.word);
  }

  update(state) {
    const [sign, word, meaning] = STATES[state] ?? STATES.unknown;
    text(this.sign, sign);
    text(this.word, word);
    attribute(this.root, "data-state", state);
    attribute(this.root, "title", meaning);
  }
}

/** Requests in flight as a bar, where it is known how many a service bears. */
export class Load {
  constructor() {
    this.bar = h("i", { "aria-hidden": "true" });
    this.word = h("span");
    this.root = h("span.gauge", {}, h("b", { "aria-hidden": "true" }, this.bar), this.word);
  }

  update(inFlight, capacity, most = 0) {
    const part = capacity ? inFlight / capacity : most ? inFlight / most : 0;
    const scale = `scaleX(${Math.min(1, part).toFixed(3)})`;
    if (this.bar.style.transform !== scale) this.bar.style.transform = scale;
    attribute(this.root, "data-full", capacity && part >= 0.9 ? "yes" : null);
    text(this.word, capacity ? `${count(inFlight)} / ${count(capacity)}` : count(inFlight));
  }
}

export const serviceHash = (name) => `#/service/${encodeURIComponent(name)}`;
export const modelHash = (id) => `#/model/${encodeURIComponent(id)}`;

/** A link to a service, or a dash where none answered. */
export function serviceLink(name) {
  return name && name !== "-" ? h("a", { href: serviceHash(name) }, name) : h("span.soft", {}, NONE);
}

const REASONS = {
  only: "no other service could take it",
  session: "its session is at home there: the conversation so far is in that cache",
  remembered: "it made the id that the path names",
  least_load: "it had the least to do",
  two_choices: "the less busy of two chosen at random",
  round_robin: "it was its turn",
  random: "chosen at random",
  prefix: "its first token is expected soonest",
};

/** `x-enginehouse-reason` in words. */
export function reasonInWords(reason) {
  if (!reason || reason === "-") return "no service was chosen";
  const [policy, part] = reason.split(" ");
  const words = REASONS[policy] ?? policy;
  return part ? `${words}; ${part} of the prompt is thought to be in its cache` : words;
}

const WHO = { C: "the client", E: "the engine", R: "the router", "-": "" };
const PHASES = {
  R: "while the request was read",
  Q: "while a service was chosen",
  C: "while connecting",
  H: "before the answer began",
  D: "within the answer",
  "-": "",
};

/** A termination code in words: "CD" → "ended by the client within the answer". */
export function terminationInWords(code) {
  if (!code || code === "--") return "complete";
  const [who, phase] = code;
  return `ended by ${WHO[who] ?? who} ${PHASES[phase] ?? ""}`.trim();
}
