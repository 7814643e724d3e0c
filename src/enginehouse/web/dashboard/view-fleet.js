// The whole house: what it does now, its models, its services. Owns the overview and its filters. May not live here:
// one service (`view-service.js`), one model (`view-model.js`).

import { Chart } from "./chart.js";
import { attribute, fill, h, shown, text } from "./dom.js";
import { count, many, seconds, share, short } from "./format.js";
import { Grid } from "./grid.js";
import { HouseMap } from "./map.js";
import { modelColumns, serviceColumns } from "./columns.js";
import { byName, rank } from "./store.js";
import { State, modelHash, serviceHash, stateName } from "./words.js";

/** Objects of the feed between two sortings: what moves every second cannot be read. */
const SORT_EVERY = 3;

export function fleetView(store) {
  const figures = charts(store.history);
  const summary = h("p.summary");
  const chips = h("div.chips", { role: "group", "aria-label": "Show services in these states only" });
  const filter = h("input", { type: "search", placeholder: "Filter services ( / )", "aria-label": "Filter services by name, model or reason", oninput: () => update(true) });
  const map = new HouseMap((name) => (location.hash = serviceHash(name)));
  const models = new Grid("Models", "models", modelColumns(), { key: (row) => row.id, open: (row) => modelHash(row.id), order: "model" });
  const services = new Grid("Services", "services", serviceColumns(store), {
    key: (row) => row.name,
    open: (row) => serviceHash(row.name),
    order: "state",
    empty: "No service matches the filter.",
  });
  const modelsPart = h("section", {}, h("h2", {}, "Models"), models.root);
  const servicesPart = h("section", {}, h("div.bar", {}, h("h2", {}, "Services"), chips, filter), map.root, services.root);
  const empty = h("section.card.welcome", { hidden: true });
  const full = h("div.stack", {}, summary, h("div.charts", {}, ...figures.map(({ root }) => root)), modelsPart, servicesPart);
  const root = h("div", {}, h("h1.unseen", {}, "Fleet"), empty, full);
  const wanted = new Set();
  let shape = -1;
  let turn = 0;

  function update(filtered = false) {
    if (!store.started) return;
    const nobody = store.services.size === 0;
    shown(empty, nobody);
    shown(full, !nobody);
    if (nobody) {
      fill(empty, String(store.head.synced), () => welcome(store.head.synced));
      return;
    }
    for (const chart of figures) chart.update();
    text(summary, summed(store));
    if (shape !== store.shape) {
      shape = store.shape;
      filtered = true;
      stateChips(chips, store, wanted, () => update(true));
      map.update([...store.services.values()].sort(byName));
    }
    turn += 1;
    models.set([...store.models.values()]);
    if (filtered) services.set(matching(store, filter.value, wanted));
    else if (turn % SORT_EVERY === 0 && !services.held && services.order !== "state") services.set(matching(store, filter.value, wanted));
    else services.set(matching(store, filter.value, wanted, services.rows), false);
  }

  return { title: "Fleet", root, update, close: () => [models, services].forEach((grid) => grid.close()) };
}

function charts(history) {
  const line = (name, key) => ({ name, series: history[key] });
  return [
    new Chart("Requests / s", [line("all", "rate"), line("failed", "error_rate")], short),
    new Chart("First byte", [line("p50", "p50"), line("p90", "p90"), line("p99", "p99")], seconds),
    new Chart("Tokens / s", [line("out", "tokens_out_rate"), line("in", "tokens_in_rate")], short),
    new Chart("In flight", [line("running", "in_flight"), line("waiting", "waiting")], short, { least: 4 }),
    new Chart("Prompt cache hits", [line("share of prompt tokens", "hit_share")], share, { least: 1, most: 1 }),
  ];
}

function summed({ totals, head, services }) {
  const parts = [many(services.size, "service"), `policy ${head.policy}`, `${count(totals.requests)} requests`];
  parts.push(`${count(totals.errors)} failed`, `${short(totals.tokens_out)} tokens out`);
  if (totals.tokens_cached) parts.push(`${short(totals.tokens_cached)} tokens found in caches`);
  if (!head.synced) parts.push("not all sources have answered yet");
  return parts.join(" · ");
}

function stateChips(chips, store, wanted, changed) {
  const states = store.states();
  for (const state of wanted) if (!states.has(state)) wanted.delete(state);
  const made = [...states].map(([state, number]) => {
    const sign = new State();
    sign.update(state);
    text(sign.word, `${stateName(state)} ${count(number)}`);
    const press = () => {
      if (!wanted.delete(state)) wanted.add(state);
      attribute(button, "aria-pressed", wanted.has(state));
      changed();
    };
    const button = h("button.chip", { type: "button", "aria-pressed": String(wanted.has(state)), onclick: press }, sign.root);
    return button;
  });
  chips.replaceChildren(...made);
}

/** The services asked for; `known`, rows in an order that is to be kept, are brought up to date instead. */
function matching(store, typed, wanted, known = null) {
  if (known) return known.map((row) => store.services.get(row.name)).filter(Boolean);
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row) => {
    if (wanted.size && !wanted.has(row.state)) return false;
    const said = `${row.name} ${row.models.join(" ")} ${row.reason ?? ""}`.toLowerCase();
    return words.every((word) => said.includes(word));
  };
  const rows = [...store.services.values()].filter(fits);
  return rows.sort((one, other) => rank(one.state) - rank(other.state) || byName(one, other));
}

function welcome(synced) {
  if (!synced) {
    return [
      h("h2", {}, "Waiting for the first word"),
      h("p", {}, "The router has not heard from its registry, or has not read its file of services, yet. Requests are answered with 503 and may be tried again."),
      h("p", {}, "If this lasts: ", h("code", {}, "enginehouse status"), " says which source is missing, and why."),
    ];
  }
  return [
    h("h2", {}, "The house is open, and empty"),
    h("p", {}, "No engine has joined yet. Any of these brings one in; it appears here by itself."),
    h("h3", {}, "An engine of this house"),
    h("p", {}, "Add it to the file that you started with, then start the house again:"),
    h("pre", {}, '[[engine]]\nname = "qwen"\nport = 9000\nbackend = { type = "vllm", model = "Qwen/Qwen2.5-7B-Instruct" }'),
    h("h3", {}, "Engines that you already run"),
    h("p", {}, "List them in a file, and name the file in the router's setting ", h("code", {}, "static_services"), "; its edits take effect within a second:"),
    h("pre", {}, '[{"name": "gpu-0", "host": "10.0.0.5", "port": 8000}]'),
    h("h3", {}, "An engine on another machine"),
    h("pre", {}, "enginehouse babysitter --config-file qwen.toml"),
    h("h3", {}, "Only to look around"),
    h("pre", {}, "scripts/demo --simulated"),
    h("p.soft", {}, "An engine is missing that should be here? ", h("code", {}, "enginehouse check house.toml"), " finds out why."),
  ];
}
