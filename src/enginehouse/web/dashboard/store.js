// What is known of the house: the feed's objects put together, and the last minutes of each number. Owns: merging,
// bounded histories. May not live here: the connection (`feed.js`), elements.

/** Seconds of history: of the whole house, and of each service and model. */
export const LONG = 300;
export const SHORT = 150;
const MOST_RECENT = 500;
const MOST_EVENTS = 1000;

/** The last values of one number, a value a second; NaN where none is known. */
export class Series {
  constructor(length) {
    this.values = new Float32Array(length).fill(NaN);
    this.end = 0;
  }

  push(value) {
    this.values[this.end % this.values.length] = value ?? NaN;
    this.end += 1;
  }

  get length() {
    return this.values.length;
  }

  /** The value at `place`, 0 being the oldest. */
  at(place) {
    return this.values[(this.end + place) % this.values.length];
  }

  get last() {
    return this.end ? this.values[(this.end - 1) % this.values.length] : NaN;
  }
}

const TRACKS = {
  totals: ["rate", "error_rate", "p50", "p90", "p99", "tokens_out_rate", "tokens_in_rate", "in_flight", "waiting", "hit_share"],
  service: ["rate", "p50", "p90", "token_rate", "in_flight"],
  model: ["rate", "p50", "p90", "in_flight", "waiting", "hit_share"],
};

function tracks(kind, length) {
  return Object.fromEntries(TRACKS[kind].map((name) => [name, new Series(length)]));
}

function note(history, row) {
  for (const [name, series] of Object.entries(history)) {
    series.push(name.startsWith("p") ? row.ttft?.[name] : row[name]);
  }
}

/** Everything the views show. `apply` takes one object of the feed. */
export class Store {
  constructor() {
    this.started = false;
    this.head = {};
    this.totals = {};
    this.services = new Map();
    this.models = new Map();
    this.underWay = [];
    this.recent = [];
    this.events = [];
    this.history = tracks("totals", LONG);
    this.version = 0;
    /** Grows when a service came, went or changed its state or its models: then lists are put together anew. */
    this.shape = 0;
  }

  apply(told) {
    const { services = [], models = [], recent = [], events = [], under_way: underWay = [], totals = {}, ...head } = told;
    this.#before(told.history);
    this.head = head;
    this.totals = totals;
    this.#services(services, told.full);
    this.#models(models);
    // Clients may send their own ids, and the same one twice.
    this.underWay = underWay.map((row, place) => ({ ...row, key: `${row.id} ${place}` }));
    this.recent = newest(this.recent, recent, MOST_RECENT);
    this.events = newest(this.events, events, MOST_EVENTS);
    note(this.history, totals);
    for (const row of this.services.values()) note(row.history, row);
    for (const row of this.models.values()) note(row.history, row);
    this.started = true;
    this.version += 1;
  }

  /** What happened before this page was opened; after a pause it is not known where it would belong. */
  #before(history) {
    if (!history || this.started) return;
    for (const row of history.rows) {
      for (let second = 0; second < history.step; second += 1) note(this.history, row);
    }
  }

  #services(rows, full) {
    const before = this.services;
    if (full) this.services = new Map();
    for (const row of rows) {
      const known = before.get(row.name);
      if (!known || known.state !== row.state || known.models.join() !== row.models.join()) this.shape += 1;
      row.history = known?.history ?? tracks("service", SHORT);
      this.services.set(row.name, row);
    }
    if (this.services.size !== before.size) this.shape += 1;
  }

  #models(rows) {
    const before = this.models;
    this.models = new Map();
    for (const row of rows) {
      row.history = before.get(row.id)?.history ?? tracks("model", SHORT);
      this.models.set(row.id, row);
    }
    if (this.models.size !== before.size) this.shape += 1;
  }

  /** How many services are in each state, worst first. */
  states() {
    const found = new Map();
    for (const { state } of this.services.values()) found.set(state, (found.get(state) ?? 0) + 1);
    return new Map([...found].sort(([one], [other]) => rank(one) - rank(other)));
  }

  /** The services that serve a model, in order of name. */
  serving(model) {
    return [...this.services.values()].filter((row) => row.models.includes(model)).sort(byName);
  }
}

/** New ones before those known, each once, so many of them. */
export function newest(known, fresh, most) {
  if (!fresh.length) return known;
  const keys = new Set(known.map((row) => row.key));
  const added = fresh.map((row) => ({ ...row, key: `${row.id} ${row.service} ${row.ms} ${row.ttft_ms}` }));
  return [...added.filter((row) => !keys.has(row.key) && keys.add(row.key)).reverse(), ...known].slice(0, most);
}

export const byName = (one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0);

const ORDER = ["down", "ejected", "trial", "unknown", "withdrawn", "drained", "draining", "returning", "up"];

/** Where a state stands in a list: what needs a person comes first. */
export function rank(state) {
  const place = ORDER.indexOf(state);
  return place < 0 ? ORDER.indexOf("unknown") : place;
}
