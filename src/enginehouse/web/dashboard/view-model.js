// One model: who serves it, by which policy, how soon it answers. May not live here: the list of models.

import { Chart } from "./chart.js";
import { serviceColumns } from "./columns.js";
import { attribute, h, shown, text } from "./dom.js";
import { count, many, seconds, share, short } from "./format.js";
import { Grid } from "./grid.js";
import { serviceHash } from "./words.js";

const POLICIES = {
  prefix: "where the first token comes soonest: prompts go where their beginning is in the cache, unless another is sooner",
  least_load: "to the service that has the least to do",
  two_choices: "to the less busy of two chosen at random",
  round_robin: "to one service after the other",
  session: "a session stays where its cache is",
  random: "to any service, by chance",
};

export function modelView(store, { wanted: id }) {
  const how = h("p.why");
  const chartsPart = h("div.charts.four");
  const grid = new Grid("Services of this model", "services", serviceColumns(store), { key: (row) => row.name, open: (row) => serviceHash(row.name), order: "state" });
  const gone = h("p.card.empty", { hidden: true }, "No service offers this model now. ", h("a", { href: "#/" }, "All models"));
  const known = h("div.stack", {}, how, chartsPart, h("section", {}, h("h2", {}, "Served by"), grid.root));
  const attempt = h("a.button", { href: `#/try/${encodeURIComponent(id)}` }, "Try it");
  const root = h("div.stack", {}, h("div.bar", {}, h("p.path", {}, h("a", { href: "#/" }, "Fleet"), " / "), h("h1", {}, id), attempt), gone, known);
  let charts = [];
  let drawnFrom = null;
  let shape = -1;

  function update() {
    const row = store.models.get(id);
    shown(gone, !row);
    shown(known, Boolean(row));
    shown(attempt, Boolean(row));
    if (!row) return;
    if (drawnFrom !== row.history) {
      drawnFrom = row.history;
      charts = chartsOf(row.history);
      chartsPart.replaceChildren(...charts.map((chart) => chart.root));
    }
    charts.forEach((chart) => chart.update());
    const waiting = row.waiting ? `, ${count(row.waiting)} waiting` : "";
    text(how, `${row.healthy} of ${many(row.services, "service")} can take requests${waiting}. Policy ${row.policy}: ${POLICIES[row.policy] ?? ""}.`);
    attribute(how, "data-tone", row.healthy ? null : "bad");
    const rows = shape === store.shape ? grid.rows.map(({ name }) => store.services.get(name)).filter(Boolean) : store.serving(id);
    grid.set(rows, shape !== store.shape);
    shape = store.shape;
  }

  return { title: id, root, update, close: () => grid.close() };
}

function chartsOf(history) {
  const line = (title, key) => ({ name: title, series: history[key] });
  return [
    new Chart("Requests / s", [line("all", "rate")], short),
    new Chart("First byte", [line("p50", "p50"), line("p90", "p90")], seconds),
    new Chart("In flight", [line("running", "in_flight"), line("waiting", "waiting")], short, { least: 4 }),
    new Chart("Prompt cache hits", [line("share of prompt tokens", "hit_share")], share, { least: 1, most: 1 }),
  ];
}
