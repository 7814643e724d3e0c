// A table of any length of which only the rows in view exist. Owns: sorting, scrolling, the row that the keyboard is at.
// May not live here: what the cells show (columns are handed in) and which rows there are.
//
// The table itself has the focus and names its active row (aria-activedescendant): rows come and go while one scrolls,
// and a focus on one of them would be lost.

import { attribute, h, shown, text } from "./dom.js";

/** Rows drawn above and below those in view. */
const SPARE = 6;
let tables = 0;

export class Grid {
  /**
   * `columns`: `{name, title, text(row), long? | make(cell) → parts, fill(parts, row), sort(row)?, down?}`; `long` texts
   * may be cut off, and are whole in a tooltip. `key(row)` names a
   * row for good, `open(row)` is where it leads (a hash, "" for nowhere), `order`: the column sorted by at first.
   */
  constructor(label, kind, columns, { key, open = () => "", order = null, empty = "Nothing here." }) {
    Object.assign(this, { columns, key, open });
    this.id = `table${(tables += 1)}`;
    this.order = order;
    this.down = false;
    this.rows = [];
    this.active = null;
    this.drawn = new Map();
    this.turn = 0;
    this.spare = [];
    this.body = h("div.rows", { role: "rowgroup" });
    this.nothing = h("p.empty", { hidden: true }, empty);
    this.heads = columns.map((column) => this.#head(column));
    this.table = h(`div.grid.${kind}`, { role: "grid", tabindex: "0", "aria-label": label }, h("div.row.head", { role: "row", "aria-rowindex": "1" }, ...this.heads), this.body);
    this.root = h("div", {}, this.table, this.nothing);
    this.#listen();
  }

  #head(column) {
    const attributes = { role: "columnheader", title: column.hint };
    if (!column.sort) return h(`span.cell.${column.name}`, attributes, column.title);
    const button = h("button", { type: "button", tabindex: "-1", onclick: () => this.#sortBy(column) }, column.title);
    return h(`span.cell.${column.name}`, attributes, button);
  }

  #sortBy(column) {
    this.down = this.order === column.name ? !this.down : Boolean(column.down);
    this.order = column.name;
    this.set(this.rows, true);
  }

  #listen() {
    this.scrolled = () => {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    };
    addEventListener("scroll", this.scrolled, { passive: true });
    addEventListener("resize", this.scrolled, { passive: true });
    this.table.addEventListener("keydown", (event) => this.#key(event));
    this.table.addEventListener("focus", () => this.draw());
    this.body.addEventListener("click", (event) => {
      const node = event.target.closest(".row");
      const row = node && this.rows[Number(node.dataset.place)];
      if (row && !event.target.closest("a, button") && !getSelection().toString()) this.#go(row);
    });
  }

  close() {
    removeEventListener("scroll", this.scrolled);
    removeEventListener("resize", this.scrolled);
    if (this.frame) cancelAnimationFrame(this.frame);
  }

  #go(row) {
    const hash = this.open(row);
    if (hash) location.hash = hash;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(innerHeight / this.height) - 3);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const at = this.rows.findIndex((row) => this.key(row) === this.active);
    if (event.key in steps && this.rows.length && event.target === this.table) {
      event.preventDefault();
      const place = Math.max(0, Math.min(this.rows.length - 1, at + steps[event.key]));
      this.active = this.key(this.rows[place]);
      this.#reveal(place);
      this.draw();
    } else if (event.key === "Enter" && at >= 0 && event.target === this.table) this.#go(this.rows[at]);
  }

  #reveal(place) {
    const top = this.body.getBoundingClientRect().top + place * this.height;
    const above = this.height * 2 + 60;
    if (top < above) scrollBy(0, top - above);
    else if (top + this.height * 2 > innerHeight) scrollBy(0, top + this.height * 2 - innerHeight);
  }

  /** Someone looks at a certain row just now: then rows keep their places. */
  get held() {
    return this.table.matches(":hover") || (this.active !== null && document.activeElement === this.table);
  }

  /** Show these rows. They are put in order only if `sort` says so and nobody points at one of them. */
  set(rows, sort = true) {
    const column = this.columns.find(({ name }) => name === this.order);
    this.rows = sort && column ? sorted(rows, column.sort, this.down, this.key) : rows;
    this.columns.forEach(({ name }, index) => {
      attribute(this.heads[index], "aria-sort", name === this.order ? (this.down ? "descending" : "ascending") : null);
    });
    attribute(this.table, "aria-rowcount", this.rows.length + 1);
    this.turn += 1;
    shown(this.nothing, this.rows.length === 0);
    shown(this.table, this.rows.length > 0);
    this.draw();
  }

  /** Bring what is in view up to date. */
  draw() {
    // All reading comes before all writing, so that the page is laid out at most once.
    const box = this.body.getBoundingClientRect();
    this.height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row")) || 36;
    const first = Math.max(0, Math.floor(-box.top / this.height) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((innerHeight - box.top) / this.height) + SPARE);
    const size = `${this.rows.length * this.height}px`;
    if (this.body.style.height !== size) this.body.style.height = size;
    const wanted = new Map();
    for (let place = first; place < last; place += 1) wanted.set(this.key(this.rows[place]), place);
    for (const [key, row] of this.drawn) {
      if (!wanted.has(key)) {
        this.drawn.delete(key);
        this.spare.push(row);
      }
    }
    for (const [key, place] of wanted) this.#row(key, place);
    for (const row of this.spare) shown(row.node, false);
    const active = this.drawn.get(this.active);
    attribute(this.table, "aria-activedescendant", active ? active.node.id : null);
  }

  #row(key, place) {
    let row = this.drawn.get(key);
    if (!row) {
      row = this.spare.pop() ?? this.#make();
      this.drawn.set(key, row);
      shown(row.node, true);
    }
    const { node, parts } = row;
    if (row.place !== place || row.height !== this.height) {
      Object.assign(row, { place, height: this.height });
      node.style.transform = `translateY(${place * this.height}px)`;
      node.dataset.place = place;
      attribute(node, "aria-rowindex", place + 2);
    }
    node.classList.toggle("active", key === this.active);
    if (row.turn === this.turn && row.key === key) return; // only scrolled: it shows what it should
    Object.assign(row, { turn: this.turn, key });
    this.columns.forEach((column, index) => {
      if (!column.text) {
        column.fill(parts[index], this.rows[place]);
        return;
      }
      const value = column.text(this.rows[place]);
      text(parts[index], value);
      if (column.long) attribute(parts[index], "title", value || null);
    });
  }

  #make() {
    const cells = this.columns.map(({ name }) => h(`span.cell.${name}`, { role: "gridcell" }));
    const node = h("div.row", { role: "row", id: `${this.id}-${this.body.childElementCount}` }, ...cells);
    const parts = this.columns.map((column, index) => (column.make ? column.make(cells[index]) : cells[index]));
    this.body.append(node);
    return { node, parts };
  }
}

function sorted(rows, by, down, key) {
  const sign = down ? -1 : 1;
  const compared = rows.map((row) => [by(row), key(row), row]);
  compared.sort(([one, name], [other, otherName]) => {
    if (one !== other) {
      if (one === null || one === undefined) return 1;
      if (other === null || other === undefined) return -1;
      return one < other ? -sign : sign;
    }
    return name < otherName ? -1 : name > otherName ? 1 : 0;
  });
  return compared.map(([, , row]) => row);
}
