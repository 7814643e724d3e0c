// The requests under way and those that have just ended. Owns the filters and holding still. May not live here: what a
// request contains: nobody outside client and engine ever sees that.

import { attribute, h, shown, text } from "./dom.js";
import { clock, count, many, milliseconds, seconds } from "./format.js";
import { Grid } from "./grid.js";
import { serviceHash, terminationInWords } from "./words.js";

const PHASES = { waiting: "waits for a service", connecting: "connects", sent: "with the engine", answering: "is being answered" };

export function requestsView(store) {
  const change = () => update();
  const filter = h("input", { type: "search", placeholder: "Filter by id, model, service, reason ( / )", "aria-label": "Filter requests", oninput: change });
  const kind = h("select", { "aria-label": "Which requests", onchange: change }, ...[["", "all"], ["failed", "failed"], ["slow", "slower than 1 s to the first byte"]].map(([value, title]) => h("option", { value }, title)));
  const hold = h("button", { type: "button", "aria-pressed": "false", onclick: holding }, "Hold still");
  const under = new Grid("Requests under way", "under", underWay(), { key: (row) => row.key, open: (row) => (named(row.service) ? serviceHash(row.service) : ""), order: "seconds", empty: "Nothing is under way." });
  under.down = true;
  const ended = new Grid("Requests that have ended", "ended", endedColumns(), { key: (row) => row.key, open: (row) => (named(row.service) ? serviceHash(row.service) : ""), empty: "No request has ended since this page was opened, or none that matches." });
  const running = h("h2", {}, "Under way");
  const over = h("h2", {}, "Ended");
  const root = h("div.stack", {}, h("div.bar", {}, h("h1", {}, "Requests"), kind, filter, hold), h("section", {}, running, under.root), h("section", {}, over, ended.root));
  let held = false;

  function holding() {
    held = !held;
    attribute(hold, "aria-pressed", held);
    text(hold, held ? "Go on" : "Hold still");
    update();
  }

  function update() {
    const fits = fitting(filter.value, kind.value);
    if (held) {
      under.draw();
      ended.draw();
      return;
    }
    under.set(store.underWay.filter(fits));
    ended.set(store.recent.filter(fits), false);
    text(running, `Under way · ${count(store.totals.in_flight)}`);
    text(over, `Ended · the last ${many(ended.rows.length, "request")} since this page was opened`);
    shown(running.parentElement, kind.value !== "failed");
  }

  return { title: "Requests", root, update, close: () => [under, ended].forEach((grid) => grid.close()) };
}

const named = (service) => service && service !== "-";

export const failed = (row) => row.status >= 400 || (row.termination && row.termination !== "--");

function fitting(typed, kind) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return (row) => {
    if (kind === "failed" && !failed(row)) return false;
    if (kind === "slow" && !((row.ttft_ms ?? (row.seconds ?? 0) * 1000) > 1000)) return false;
    const said = `${row.id} ${row.model ?? ""} ${row.service ?? ""} ${row.reason ?? ""} ${row.status ?? ""} ${row.outcome ?? ""}`.toLowerCase();
    return words.every((word) => said.includes(word));
  };
}

function underWay() {
  return [
    { name: "seconds", title: "Since", text: (row) => seconds(row.seconds), sort: (row) => row.seconds, down: true },
    { name: "phase", title: "Phase", text: (row) => PHASES[row.phase] ?? row.phase ?? "" },
    { name: "model", title: "Model", text: (row) => row.model || "–", sort: (row) => row.model },
    { name: "service", title: "Service", text: (row) => row.service || "–", sort: (row) => row.service },
    { name: "stream", title: "Kind", text: (row) => (row.stream ? "stream" : "whole") },
    { name: "id", title: "Id", long: true, text: (row) => row.id },
  ];
}

export function endedColumns() {
  return [
    { name: "time", title: "Time", text: (row) => clock(row.time) },
    {
      name: "outcome",
      title: "Outcome",
      make: (cell) => cell,
      fill(cell, row) {
        const bad = failed(row);
        text(cell, `${row.status || "–"} ${bad ? String(row.outcome ?? "").replaceAll("_", " ") : "ok"}`);
        attribute(cell, "data-tone", bad ? "bad" : "good");
        attribute(cell, "title", terminationInWords(row.termination));
      },
    },
    { name: "model", title: "Model", text: (row) => row.model || "–" },
    { name: "service", title: "Service", text: (row) => row.service || "–" },
    { name: "first", title: "First byte", text: (row) => milliseconds(row.ttft_ms) },
    { name: "took", title: "Took", text: (row) => milliseconds(row.ms) },
    { name: "tokens", title: "Tokens", hint: "In and out", text: (row) => (row.tokens_in === null && row.tokens_out === null ? "–" : `${count(row.tokens_in)} → ${count(row.tokens_out)}`) },
    { name: "reason", title: "Chosen by", text: (row) => row.reason || "" },
  ];
}
