"""What `up` tells about a house: its URL first, each engine's way to being ready, something to try at once.

Owns the lines and when they are due. May not live here: processes; whether an engine is ready (the router knows).
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any, Final, TextIO

from enginehouse.cli import ask
from enginehouse.cli.ports import url
from enginehouse.cli.terminal import paint, wants_colour
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.house import HouseConfig

#: Time between two looks at the engines while some are starting, and when none is. Seconds.
LOOK: Final = 0.05
LOOK_SETTLED: Final = 2.0
#: An engine that the router does not send requests to is asked how it is this often. Seconds.
ASK: Final = 0.5
#: After this long without news, say what is still awaited. Seconds.
PATIENCE: Final = 15.0
TIMEOUT: Final = 1.0

COLOURS = {"ready": "green", "failed": "red", "backing off": "yellow", "degraded": "yellow"}
CURL = """
  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{body}'
"""


class Progress:
    """Follows the engines of a house and says what changes."""

    def __init__(self, config: HouseConfig, out: TextIO) -> None:
        self._config, self._out = config, out
        self._url = url(config.router.host, config.router.port)
        self._colour = wants_colour(out)
        self._state = {engine.name: "starting" for engine in config.engine}
        self._since: dict[str, float] = {}
        self._told: dict[str, tuple[str, str]] = {}
        self._asked: dict[str, float] = {}
        self._begun = self._news_at = 0.0
        self._look_at = 0.0
        self._invited = self._summed_up = False

    def begin(self, log: Path | None) -> None:
        """The first lines: where clients go, what is started, and the file (if any) that has the details."""
        self._begun = self._news_at = time.monotonic()
        self.say(paint(self._url, "bold", self._colour))
        for engine in self._config.engine:
            self._since[engine.name] = self._begun
            detail = f"{engine.backend.type}, port {engine.port}"
            self._line(engine.name, "starting", detail + (f", log {log.parent / engine.name}.log" if log else ""))
        if log:
            self.say(f"  what the parts say goes to {log}")

    def say(self, text: str) -> None:
        """One line for people, at once; the house stands whether or not anybody still reads."""
        with contextlib.suppress(OSError):
            print(text, file=self._out, flush=True)

    def look(self, now: float) -> float:
        """Look at the engines if it is time to. Returns when to look again."""
        if now < self._look_at:
            return self._look_at
        serving = self._serving()
        for engine in self._config.engine:
            if (models := serving.get(f"{engine.name}-server")) is not None:
                self._tell(engine, "ready", ", ".join(models), now)
            elif now - self._asked.get(engine.name, 0.0) >= ASK:
                self._asked[engine.name] = now
                self._tell(engine, *self._how_is(engine), now)
        self._invite(serving)
        starting = [name for name, state in self._state.items() if state == "starting"]
        self._sum_up(starting, now)
        self._look_at = time.monotonic() + (LOOK if starting or not serving else LOOK_SETTLED)
        return self._look_at

    def _serving(self) -> dict[str, list[str]]:
        """What the router would send requests to now, with the models."""
        try:
            return {
                str(s.get("name")): s.get("models") or [] for s in ask.services(self._url, TIMEOUT) if s.get("healthy")
            }
        except ask.NoAnswerError:
            return {}

    def _how_is(self, engine: BabysitterConfig) -> tuple[str, str]:
        """The state and its reason as the babysitter tells it; as it was while the babysitter says nothing."""
        try:
            health: Any = ask.get(url(engine.bind, engine.port + 1), "/health", TIMEOUT)
            state = str(health["status"])
        except (ask.NoAnswerError, KeyError, TypeError):
            return self._state[engine.name], ""
        if state in ("ready", "healthy"):  # registered, but the router has not heard of it yet
            return ("starting", "") if self._state[engine.name] == "starting" else (self._state[engine.name], "")
        return state, str(health.get("reason") or "")

    def _tell(self, engine: BabysitterConfig, state: str, detail: str, now: float) -> None:
        if state == self._state[engine.name]:
            return
        if self._state[engine.name] == "ready":
            self._since[engine.name] = now
        self._state[engine.name] = state
        if state == "starting" or self._told.get(engine.name) == (state, detail):
            return  # it tries again, as was said when it failed
        self._told[engine.name] = (state, detail)
        self._news_at = now
        if state == "ready":
            detail = f"in {now - self._since[engine.name]:.1f} s  {detail}"
        elif detail and state in ("failed", "backing off"):
            detail += f"; see {Path(engine.babysitter.log_dir) / engine.name}.log"
        self._line(engine.name, state, detail)

    def _line(self, name: str, state: str, detail: str) -> None:
        width = max(len(engine.name) for engine in self._config.engine)
        coloured = paint(f"{state:<11}", COLOURS.get(state, "dim"), self._colour)
        self.say(f"  {name:<{width}}  {coloured}  {detail}".rstrip())

    def _invite(self, serving: dict[str, list[str]]) -> None:
        """Something to paste, as soon as the first engine of the file that can chat is ready."""
        talkers = [engine for engine in self._config.engine if chats(engine)]
        first = next((engine for engine in talkers if self._state[engine.name] in ("starting", "ready")), None)
        models = serving.get(f"{first.name}-server") if first else None
        if self._invited or not models:
            return
        self._invited = True
        body = {"model": models[0], "messages": [{"role": "user", "content": "Say hello."}]}
        self.say(paint(CURL.format(url=self._url, body=json.dumps(body)), "cyan", self._colour))

    def _sum_up(self, starting: list[str], now: float) -> None:
        if starting:
            if now - self._news_at >= PATIENCE:
                self._news_at = now
                self.say(f"  still starting after {now - self._begun:.0f} s: {', '.join(starting)}")
        elif not self._summed_up:
            self._summed_up = True
            ready = sum(state == "ready" for state in self._state.values())
            took = f"{now - self._begun:.1f} s"
            self.say(f"{ready} of {len(self._state)} engines are ready after {took}. Ctrl-C stops everything.")


def chats(engine: BabysitterConfig) -> bool:
    """Whether an engine is one to talk to, as far as its arguments show."""
    return not any(word.startswith(("--embed", "--rerank", "--pooling")) for word in engine.backend.args)
