// What happened to the house, newest first. May not live here: how events come (`store.js`).

import { attribute, h, text } from "./dom.js";
import { clock, moment } from "./format.js";
import { Grid } from "./grid.js";
import { serviceHash } from "./words.js";

const GOOD = new Set(["joined", "up", "returned", "synced", "resumed", "source_back", "found"]);
const BAD = new Set(["down", "ejected", "source_lost", "rejected", "missing", "engine_restarted", "worker_restarted"]);
const SIGNS = { good: "●", bad: "■", "": "○" };

const tone = (kind) => (GOOD.has(kind) ? "good" : BAD.has(kind) ? "bad" : "");

/** A table of events, for this view and for a service's. */
export function eventsGrid(empty) {
  const columns = [
    {
      name: "time",
      title: "Time",
      make: (cell) => cell,
      fill(cell, row) {
        text(cell, clock(row.time));
        attribute(cell, "title", moment(row.time));
      },
    },
    {
      name: "kind",
      title: "What",
      make(cell) {
        const parts = { sign: h("i", { "aria-hidden": "true" }), word: h("span") };
        cell.append(parts.sign, parts.word);
        return { cell, ...parts };
      },
      fill({ cell, sign, word }, row) {
        attribute(cell, "data-tone", tone(row.kind));
        text(sign, SIGNS[tone(row.kind)]);
        text(word, String(row.kind).replaceAll("_", " "));
      },
    },
    { name: "service", title: "Who", text: (row) => row.service || "the router" },
    { name: "reason", title: "Why", long: true, text: (row) => row.reason || "" },
  ];
  return new Grid("Events", "events", columns, { key: (row) => row.key, open: (row) => (row.service ? serviceHash(row.service) : ""), empty });
}

export function eventsView(store) {
  const filter = h("input", { type: "search", placeholder: "Filter events ( / )", "aria-label": "Filter events by service, kind or reason", oninput: () => update() });
  const grid = eventsGrid("Nothing has happened yet, or nothing that matches.");
  const root = h("div.stack", {}, h("div.bar", {}, h("h1", {}, "Events"), filter), grid.root);

  function update() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (row) => words.every((word) => `${row.kind} ${row.service ?? ""} ${row.reason ?? ""}`.toLowerCase().includes(word));
    grid.set(store.events.filter(fits), false);
  }

  return { title: "Events", root, update, close: () => grid.close() };
}
