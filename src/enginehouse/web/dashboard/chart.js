// Line charts of the last minutes, drawn as SVG, coloured by the style sheet. Owns: scale, lines, the cross-hair for
// pointer and arrow keys, what a screen reader is told. May not live here: which numbers are shown.

import { attribute, h, svg, text } from "./dom.js";

const HEIGHT = 100;
/** Room above the highest value, where the scale is written. */
const HEADROOM = 1.15;

/** The next round number, so that a line uses most of the room it has. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** The line through a series: it is broken where nothing is known. */
function line(series, top) {
  let path = "";
  let broken = true;
  for (let place = 0; place < series.length; place += 1) {
    const value = series.at(place);
    if (Number.isNaN(value)) {
      broken = true;
    } else {
      path += `${broken ? "M" : "L"}${place} ${(HEIGHT - (Math.min(value, top) / top) * HEIGHT).toFixed(1)}`;
      broken = false;
    }
  }
  return path;
}

/** The surface below a line. */
function area(series, top) {
  let from = 0;
  while (from < series.length && Number.isNaN(series.at(from))) from += 1;
  if (from >= series.length - 1) return "";
  let path = `M${from} ${HEIGHT}`;
  for (let place = from; place < series.length; place += 1) {
    const value = Number.isNaN(series.at(place)) ? 0 : series.at(place);
    path += `L${place} ${(HEIGHT - (Math.min(value, top) / top) * HEIGHT).toFixed(1)}`;
  }
  return `${path}L${series.length - 1} ${HEIGHT}Z`;
}

function highest(lines) {
  let most = 0;
  for (const { series } of lines) {
    for (const value of series.values) if (value > most) most = value;
  }
  return most;
}

/** A chart: `lines` are `{name, series}`, the first the one that matters; `format` makes text of a value. */
export class Chart {
  constructor(title, lines, format, { least = 0, most = Infinity, headline = lines[0] } = {}) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.least = least;
    this.most = most;
    this.headline = headline;
    this.pointed = null;
    const length = lines[0].series.length;
    this.area = svg("path", { class: "area" });
    this.paths = lines.map((_, index) => svg("path", { class: `line l${index}` }));
    this.cross = svg("path", { class: "cross", d: "" });
    this.drawing = svg("svg", { viewBox: `0 0 ${length - 1} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.drawing.append(svg("path", { class: "rule", d: `M0 0H${length}M0 50H${length}` }), this.area, ...[...this.paths].reverse(), this.cross);
    this.top = h("span.most");
    this.when = h("span.when");
    this.value = h("strong.value", {}, "–");
    this.plot = h("div.plot", { tabindex: "0", role: "img" }, this.drawing, this.top, this.when);
    this.readings = lines.map(({ name }, index) => {
      const value = h("b", {}, "–");
      return { node: h(`span.reading.l${index}`, {}, h("i"), `${name} `, value), value };
    });
    const legend = lines.length > 1 ? h("p.legend", {}, ...this.readings.map(({ node }) => node)) : null;
    this.root = h("section.card.chart", {}, h("header", {}, h("h2", {}, title), this.value), this.plot, legend);
    this.#listen(length);
  }

  #listen(length) {
    const point = (place) => {
      this.pointed = place === null ? null : Math.max(0, Math.min(length - 1, place));
      this.update();
    };
    this.plot.addEventListener("pointermove", (event) => {
      const box = this.plot.getBoundingClientRect();
      point(Math.round(((event.clientX - box.left) / box.width) * (length - 1)));
    });
    for (const name of ["pointerleave", "blur"]) this.plot.addEventListener(name, () => point(null));
    this.plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
      if (step) {
        event.preventDefault();
        point((this.pointed ?? length - 1) + step);
      } else if (event.key === "Escape") point(null);
    });
  }

  /** Draw what the series hold now. */
  update() {
    const top = Math.min(this.most, roundUp(Math.max(highest(this.lines) * HEADROOM, this.least)));
    const length = this.lines[0].series.length;
    this.lines.forEach(({ series }, index) => attribute(this.paths[index], "d", line(series, top)));
    attribute(this.area, "d", area(this.lines[0].series, top));
    attribute(this.cross, "d", this.pointed === null ? "" : `M${this.pointed} 0V${HEIGHT}`);
    text(this.top, this.format(top));
    const ago = this.pointed === null ? null : length - 1 - this.pointed;
    text(this.when, ago === null ? `${Math.round(length / 60)} min` : ago ? `${ago} s ago` : "now");
    const read = (series) => this.format(this.pointed === null ? series.last : series.at(this.pointed));
    this.lines.forEach(({ series }, index) => text(this.readings[index].value, read(series)));
    text(this.value, read(this.headline.series));
    const told = this.lines.map(({ name, series }) => `${name} ${read(series)}`).join(", ");
    attribute(this.plot, "aria-label", `${this.title}: ${told}; at most ${this.format(highest(this.lines))} in the last minutes`);
  }
}

/** A line without anything around it, for a row of a table. */
export class Spark {
  constructor(length) {
    this.path = svg("path", { class: "line l0" });
    this.root = svg("svg", { class: "spark", viewBox: `0 -4 ${length - 1} ${HEIGHT + 8}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.path);
  }

  update(series) {
    attribute(this.path, "d", line(series, roundUp(highest([{ series }]))));
  }
}
