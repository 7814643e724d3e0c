// The house as a picture: a window for each service, coloured by how it is. Owns the drawing and what is under the
// pointer. May not live here: filters. For the eye only: the table below it says the same to everybody.

import { attribute, h, shown, svg } from "./dom.js";
import { stateName } from "./words.js";

/** A fleet of fewer services is better read in the table. */
const LEAST = 24;
const STEP = 14;

export class HouseMap {
  constructor(open) {
    this.rows = [];
    this.paths = new Map();
    this.drawing = svg("svg", { "aria-hidden": "true" });
    this.title = svg("title");
    this.drawing.append(this.title);
    this.root = h("div.map.card", { hidden: true }, this.drawing);
    this.drawing.addEventListener("pointermove", (event) => {
      const row = this.#under(event);
      this.title.textContent = row ? `${row.name}: ${stateName(row.state)}${row.reason ? ", " + row.reason : ""}` : "";
      this.drawing.style.cursor = row ? "pointer" : "";
    });
    this.drawing.addEventListener("click", (event) => {
      const row = this.#under(event);
      if (row) open(row.name);
    });
    new ResizeObserver(() => this.#draw()).observe(this.root);
  }

  #under(event) {
    const box = this.drawing.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / STEP);
    const line = Math.floor((event.clientY - box.top) / STEP);
    return column < this.across ? this.rows[line * this.across + column] : undefined;
  }

  /** Show these services, in this order. */
  update(rows) {
    this.rows = rows;
    shown(this.root, rows.length >= LEAST);
    this.#draw();
  }

  #draw() {
    if (this.root.hidden) return;
    const room = this.root.clientWidth - 24;
    this.across = Math.max(1, Math.floor(room / STEP));
    const windows = new Map();
    this.rows.forEach(({ state }, place) => {
      const [x, y] = [(place % this.across) * STEP, Math.floor(place / this.across) * STEP];
      windows.set(state, `${windows.get(state) ?? ""}M${x + 1} ${y + 1}h${STEP - 3}v${STEP - 3}h${3 - STEP}z`);
    });
    for (const state of windows.keys()) {
      if (!this.paths.has(state)) {
        const path = svg("path", { class: "window", "data-state": state });
        this.paths.set(state, path);
        this.drawing.append(path);
      }
    }
    for (const [state, path] of this.paths) attribute(path, "d", windows.get(state) ?? "");
    attribute(this.drawing, "width", this.across * STEP);
    attribute(this.drawing, "height", Math.ceil(this.rows.length / this.across) * STEP);
  }
}
