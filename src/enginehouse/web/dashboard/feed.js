// The connection to the router: one stream of objects, one a second. Owns: connecting, coming back, resting while
// nobody looks. May not live here: what the objects mean (`store.js`).

/** The router's address, whatever prefix it stands behind: this file is at `dashboard/static/feed.js` there. */
export const BASE = new URL("../../", import.meta.url);

const FIRST_DELAY = 1;
const LONGEST_DELAY = 10;
/** Seconds without an object after which the connection counts as lost: one a second is promised. */
const SILENCE = 8;
/** Seconds a hidden page goes on listening. */
const HIDDEN = 30;

export class Feed {
  /** `take(object)` for each object; `tell(link, seconds)`: "live", "lost" (next try in so many seconds), "resting". */
  constructor(take, tell) {
    this.take = take;
    this.tell = tell;
    this.delay = FIRST_DELAY;
    this.source = null;
    this.timers = {};
    document.addEventListener("visibilitychange", () => this.#looked());
    this.#connect();
  }

  #later(name, after, run) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(run, after * 1000);
  }

  #connect() {
    this.#close();
    this.source = new EventSource(new URL("dashboard/feed", BASE));
    this.source.onmessage = ({ data }) => {
      this.delay = FIRST_DELAY;
      this.#later("silence", SILENCE, () => this.#lost());
      this.take(JSON.parse(data));
      this.tell("live", 0);
    };
    this.source.onerror = () => this.#lost();
    this.#later("silence", SILENCE, () => this.#lost());
  }

  #close() {
    clearTimeout(this.timers.silence);
    this.source?.close();
    this.source = null;
  }

  #lost() {
    this.#close();
    this.tell("lost", this.delay);
    this.#later("again", this.delay, () => this.#connect());
    this.delay = Math.min(this.delay * 2, LONGEST_DELAY);
  }

  #looked() {
    if (document.hidden) {
      this.#later("hidden", HIDDEN, () => {
        this.#close();
        clearTimeout(this.timers.again);
        this.tell("resting", 0);
      });
    } else {
      clearTimeout(this.timers.hidden);
      if (this.source === null) {
        clearTimeout(this.timers.again);
        this.#connect();
      }
    }
  }
}
