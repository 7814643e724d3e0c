// Starts the page: the feed, the views by address, colours, the keys of the whole page. May not live here: any view.

import { fill, h, shown, text } from "./dom.js";
import { Feed } from "./feed.js";
import { Actions } from "./actions.js";
import { Store } from "./store.js";
import { eventsView } from "./view-events.js";
import { fleetView } from "./view-fleet.js";
import { modelView } from "./view-model.js";
import { requestsView } from "./view-requests.js";
import { serviceView } from "./view-service.js";
import { tryView } from "./view-try.js";

const ROUTES = [
  [/^#\/service\/(.+)$/, serviceView, "#/"],
  [/^#\/model\/(.+)$/, modelView, "#/"],
  [/^#\/requests$/, requestsView, "#/requests"],
  [/^#\/events$/, eventsView, "#/events"],
  [/^#\/try(?:\/(.+))?$/, tryView, "#/try"],
  [/^/, fleetView, "#/"],
];

const main = document.getElementById("main");
const links = [...document.querySelectorAll("header nav a")];
const store = new Store();
const actions = new Actions(document.getElementById("actions"));
let view = null;

function show(moved) {
  const [pattern, make, home] = ROUTES.find(([candidate]) => candidate.test(location.hash));
  const given = location.hash.match(pattern)[1];
  view?.close?.();
  let wanted = given;
  try {
    wanted = given && decodeURIComponent(given);
  } catch {
    // Not something this page wrote: it is taken as it is.
  }
  view = make(store, { actions, wanted });
  main.replaceChildren(view.root);
  document.title = `${view.title} · Enginehouse`;
  for (const link of links) {
    if (link.getAttribute("href") === home) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  update();
  if (moved) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

let planned = false;
function update() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    if (store.started) view.update();
    document.body.classList.toggle("started", store.started);
  });
}

function linked(state, seconds) {
  const link = document.getElementById("link");
  link.dataset.link = state;
  const words = { live: `live · ${store.head.version ?? ""}`, lost: "not connected", resting: "resting" };
  text(link.lastElementChild, words[state]);
  const lost = document.getElementById("lost");
  shown(lost, state === "lost");
  if (state === "lost") text(lost, `No word from the router. Trying again in ${seconds} s; what is shown is what was last known.`);
  document.body.classList.toggle("stale", state !== "live");
}

new Feed((told) => {
  store.apply(told);
  actions.allowed(Boolean(told.actions));
  update();
}, linked);

// Colours: as the system has them, until somebody chooses.
const theme = document.getElementById("theme");
const THEMES = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
function coloured(name) {
  document.documentElement.dataset.theme = name;
  text(theme, THEMES[name][0]);
  theme.setAttribute("aria-label", `Colours: ${THEMES[name][1]}`);
  theme.title = theme.getAttribute("aria-label");
}
theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  localStorage.setItem("enginehouse.theme", next);
  coloured(next);
});
const chosen = localStorage.getItem("enginehouse.theme");
coloured(chosen in THEMES ? chosen : "");

// Keys: 1 to 4 for the views, / for the filter. Not while something is being typed.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const link = links[Number(event.key) - 1];
  if (link) location.hash = link.hash;
  const filter = event.key === "/" && main.querySelector("input[type=search]");
  if (filter) {
    event.preventDefault();
    filter.focus();
  }
});

// The skip link must not be taken for the address of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener("hashchange", () => show(true));
fill(main, "waiting", () => [h("p.empty", {}, "Asking the router…")]);
show(false);
