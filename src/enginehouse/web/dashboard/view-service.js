// One service: how it does, why, and what can be done about it. Owns asking for its details while it is looked at. May
// not live here: the list of services.

import { Chart } from "./chart.js";
import { attribute, fill, h, shown, text } from "./dom.js";
import { BASE } from "./feed.js";
import { NONE, clock, count, moment, seconds, share, short } from "./format.js";
import { endedColumns } from "./view-requests.js";
import { newest } from "./store.js";
import { eventsGrid } from "./view-events.js";
import { Grid } from "./grid.js";
import { Load, State, modelHash } from "./words.js";

/** Milliseconds between two questions for the details. */
const EVERY = 2000;
/** Requests and events of it that are shown. */
const SHOWN = 20;

export function serviceView(store, { actions, wanted: name }) {
  const state = new State();
  const load = new Load();
  const why = h("p.why");
  const told = h("p.told", { role: "status" });
  const drain = h("button", { type: "button", hidden: true, onclick: () => order(actions, name, store, told).then(() => details.ask()) }, "Drain");
  const facts = h("dl.facts");
  const chartsPart = h("div.charts.three");
  const details = new Details(name, actions);
  const events = eventsGrid("Nothing has happened to it that is still remembered.");
  const ended = new Grid("Its last requests", "ended", endedColumns(), { key: (row) => row.key, empty: "None has ended while somebody watched." });
  const gone = h("p.card.empty", { hidden: true }, "The house has no service of this name now. ", h("a", { href: "#/" }, "All services"));
  const known = h("div.stack", {}, chartsPart, h("div.two", {}, h("section.card", {}, h("h2", {}, "What it is"), facts), details.root), h("section", {}, h("h2", {}, "Its last requests"), ended.root), h("section", {}, h("h2", {}, "What happened to it"), events.root), details.logs);
  const head = h("div.bar", {}, h("p.path", {}, h("a", { href: "#/" }, "Fleet"), " / "), h("h1", {}, name), state.root, load.root, drain);
  const root = h("div.stack", {}, head, why, told, gone, known);
  let charts = [];
  let drawnFrom = null;
  details.ask();

  function update() {
    const row = store.services.get(name);
    shown(gone, !row);
    shown(known, Boolean(row));
    for (const node of [state.root, load.root, why]) shown(node, Boolean(row));
    shown(drain, Boolean(row) && actions.possible);
    if (!row) return;
    if (drawnFrom !== row.history) {
      drawnFrom = row.history;
      charts = chartsOf(row.history);
      chartsPart.replaceChildren(...charts.map((chart) => chart.root));
    }
    charts.forEach((chart) => chart.update());
    state.update(row.state);
    load.update(row.in_flight, row.capacity, 8);
    text(why, row.reason ? `Because: ${row.reason}` : "Nothing is wrong with it.");
    attribute(why, "data-tone", row.reason && row.state !== "up" ? "bad" : null);
    text(drain, isDraining(row) ? "Take it back" : "Drain");
    fill(facts, JSON.stringify(factsOf(row)), () => factsOf(row).flatMap(([title, value, hash]) => [h("dt", {}, title), h("dd", {}, hash ? h("a", { href: hash }, value) : value)]));
    ended.set(lately(store.recent.filter((each) => each.service === name), details.recent), false);
    events.set(store.events.filter((each) => each.service === name).slice(0, SHOWN), false);
  }

  return {
    title: name,
    root,
    update,
    close() {
      details.close();
      events.close();
      ended.close();
    },
  };
}

/** Requests of the feed and of the details, the newest first: either may know some that the other does not. */
function lately(seen, told) {
  return newest(seen, told, Infinity).sort((one, other) => other.time - one.time).slice(0, SHOWN);
}

const isDraining = (row) => ["draining", "drained"].includes(row.state);

async function order(actions, name, store, told) {
  const undo = isDraining(store.services.get(name));
  try {
    const answer = await actions.order("drain", { service: name, undo });
    if (answer) text(told, undo ? `${name} takes requests again.` : `${name} drains: it gets no new requests, and finishes those it has.`);
  } catch (problem) {
    text(told, problem.message);
  }
}

function chartsOf(history) {
  const line = (title, key) => ({ name: title, series: history[key] });
  return [
    new Chart("Requests / s", [line("all", "rate")], short),
    new Chart("First byte", [line("p50", "p50"), line("p90", "p90")], seconds),
    new Chart("In flight", [line("running", "in_flight")], short, { least: 4 }),
  ];
}

function factsOf(row) {
  const facts = row.models.map((id, place) => [place ? "" : "Models", id, modelHash(id)]);
  facts.push(["Address", row.url || NONE], ["Weight", String(row.weight ?? NONE)]);
  facts.push(["Requests at once", row.capacity ? count(row.capacity) : "any number"], ["Requests", count(row.requests)]);
  facts.push(["Failed", row.requests ? `${count(row.errors)} (${share(row.errors / row.requests)})` : count(row.errors)]);
  facts.push(["Tokens / s", short(row.token_rate)]);
  if (row.waiting_tokens) facts.push(["Prompt tokens ahead", count(row.waiting_tokens)]);
  return facts;
}

/** What the feed does not carry: asked for while this service is looked at. */
class Details {
  constructor(name, actions) {
    this.url = new URL(`dashboard/service/${encodeURIComponent(name)}`, BASE);
    this.actions = actions;
    this.lines = h("pre.lines", { tabindex: "0", "aria-label": "Last lines of its log" });
    this.needs = h("p.soft");
    this.logs = h("section", {}, h("h2", {}, "Last lines of its log"), this.needs, this.lines);
    this.probes = h("ol.probes");
    this.sitter = h("dl.facts");
    this.root = h("section.card", {}, h("h2", {}, "Probes"), this.probes, h("h2", {}, "Babysitter"), this.sitter);
    this.asking = new AbortController();
    /** Its last requests, those from before this page was opened included. */
    this.recent = [];
  }

  close() {
    clearTimeout(this.timer);
    this.asking.abort();
  }

  /** Ask now, and again and again from then on. */
  async ask() {
    clearTimeout(this.timer);
    let told = null;
    try {
      const signal = AbortSignal.any([this.asking.signal, AbortSignal.timeout(10000)]);
      const response = await fetch(this.url, { headers: this.actions.headers, signal });
      if (response.ok) told = await response.json();
    } catch {
      // It is asked again soon; that the router is gone is said at the top of the page.
    }
    if (told) this.#show(told);
    clearTimeout(this.timer);
    if (!this.asking.signal.aborted) this.timer = setTimeout(() => this.ask(), EVERY);
  }

  #show(told) {
    this.recent = told.recent ?? [];
    const probes = told.probes ?? [];
    fill(this.probes, JSON.stringify(probes), () => (probes.length ? probes.map(probe) : [h("li.soft", {}, "None yet.")]));
    const sitter = told.babysitter;
    fill(this.sitter, JSON.stringify(sitter ?? null), () => (sitter ? facts(sitter) : [h("dd.soft", {}, "Nobody looks after it: it was not started by Enginehouse.")]));
    const lines = told.log?.length ? told.log.join("\n") : "";
    const atEnd = this.lines.scrollTop + this.lines.clientHeight >= this.lines.scrollHeight - 4;
    text(this.lines, lines);
    shown(this.lines, Boolean(lines));
    if (atEnd) this.lines.scrollTop = this.lines.scrollHeight;
    const without = this.actions.token ? "It has none, or its babysitter does not show them." : "Shown with the token only: press Actions.";
    text(this.needs, lines ? "" : this.actions.possible ? without : "Not shown: the router takes no actions (its setting admin_token_file is empty).");
  }
}

function probe(each) {
  const sign = h("i", { "aria-hidden": "true" }, each.ok ? "●" : "■");
  const took = each.ms === undefined || each.ms === null ? "" : ` ${seconds(each.ms / 1000)}`;
  return h("li", { "data-tone": each.ok ? "good" : "bad", title: moment(each.time) }, sign, ` ${clock(each.time)} ${each.ok ? "passed" : "failed"}${took}${each.reason ? `: ${each.reason}` : ""}`);
}

function facts(told) {
  const plain = Object.entries(told).filter(([, value]) => value !== null && typeof value !== "object" && value !== "");
  return plain.flatMap(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, name === "uptime" ? seconds(value) : String(value))]);
}
