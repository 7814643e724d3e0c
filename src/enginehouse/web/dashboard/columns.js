// The columns of the tables of services and models, which more than one view shows. May not live here: which rows.

import { Spark } from "./chart.js";
import { h, text } from "./dom.js";
import { NONE, count, seconds, share, short } from "./format.js";
import { SHORT, rank } from "./store.js";
import { Load, State, modelHash, serviceHash } from "./words.js";

function link(hash) {
  return {
    make(cell) {
      const node = h("a", { tabindex: "-1" });
      cell.append(node);
      return node;
    },
    fill(node, row) {
      const [href, title] = hash(row);
      text(node, title);
      if (node.hash !== href) node.href = href;
      node.title = title;
    },
  };
}

const spark = {
  make(cell) {
    const drawn = new Spark(SHORT);
    const value = h("span");
    cell.append(drawn.root, value);
    return { drawn, value };
  },
  fill({ drawn, value }, row) {
    drawn.update(row.history.rate);
    text(value, short(row.rate));
  },
};

const rate = { name: "rate", title: "Req/s", hint: "Requests a second, and their last minutes", sort: (row) => row.rate, down: true, ...spark };
const ttft = (name) => ({ name, title: name, hint: `Time to first byte: ${name.slice(1)} of 100 requests are faster`, text: (row) => seconds(row.ttft?.[name]), sort: (row) => row.ttft?.[name] ?? null, down: true });

export function serviceColumns(store) {
  const most = () => Math.max(...[...store.services.values()].map((row) => (row.capacity ? 0 : row.in_flight)), 8);
  let scale = 8;
  let scaled = -1;
  return [
    {
      name: "state",
      title: "State",
      sort: (row) => rank(row.state),
      make(cell) {
        const state = new State();
        cell.append(state.root);
        return state;
      },
      fill: (state, row) => state.update(row.state),
    },
    { name: "service", title: "Service", sort: (row) => row.name, ...link((row) => [serviceHash(row.name), row.name]) },
    { name: "serves", title: "Models", long: true, text: (row) => row.models.join(", ") || NONE },
    {
      name: "load",
      title: "In flight",
      hint: "Requests that it is answering, of so many that it bears at once",
      sort: (row) => (row.capacity ? row.in_flight / row.capacity : row.in_flight / 1e6),
      down: true,
      make(cell) {
        const load = new Load();
        cell.append(load.root);
        return load;
      },
      fill(load, row) {
        if (scaled !== store.version) {
          scaled = store.version;
          scale = most();
        }
        load.update(row.in_flight, row.capacity, scale);
      },
    },
    rate,
    { name: "tokens", title: "Tok/s", hint: "Tokens a second that it generates", text: (row) => short(row.token_rate), sort: (row) => row.token_rate, down: true },
    ttft("p50"),
    ttft("p90"),
    { name: "errors", title: "Failed", hint: "Requests that failed there, ever", text: (row) => count(row.errors), sort: (row) => row.errors, down: true },
    { name: "reason", title: "Why", long: true, text: (row) => row.reason || "" },
  ];
}

export function modelColumns() {
  return [
    { name: "model", title: "Model", sort: (row) => row.id, ...link((row) => [modelHash(row.id), row.id]) },
    {
      name: "healthy",
      title: "Services",
      hint: "Services that can take a request now, of all that serve it",
      sort: (row) => row.healthy,
      make: (cell) => cell,
      fill(cell, row) {
        text(cell, `${count(row.healthy)} of ${count(row.services)}`);
        cell.classList.toggle("alarm", row.healthy === 0);
        cell.classList.toggle("warn", row.healthy > 0 && row.healthy < row.services);
      },
    },
    { name: "policy", title: "Policy", text: (row) => row.policy ?? NONE },
    { name: "load", title: "In flight", text: (row) => count(row.in_flight), sort: (row) => row.in_flight, down: true },
    { name: "waiting", title: "Waiting", text: (row) => count(row.waiting), sort: (row) => row.waiting, down: true },
    rate,
    ttft("p50"),
    ttft("p90"),
    { name: "hits", title: "Cache hits", hint: "Part of the prompts' tokens thought to be in the cache of the service chosen", text: (row) => share(row.hit_share), sort: (row) => row.hit_share, down: true },
  ];
}
