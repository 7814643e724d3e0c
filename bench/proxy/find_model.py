"""What finding the model in a body costs by itself: `python -m bench.proxy.find_model --kind text --size 1048576`.

Owns bodies of three kinds and the loop over them. May not live here: how it is found (`enginehouse.wire.peek`).

Text is what people and programs send; token ids and text full of escapes are what a scanner likes least. Prints one
line of figures: CPU time of the process for each body, and the quantiles over bodies.
"""

import argparse
import gc
import json
import random
import time
from collections.abc import Callable

from bench.common import traffic
from enginehouse.wire.peek import peek

_BODIES = 8


def text(size: int, rng: random.Random) -> bytes:
    """A chat of plain words."""
    return traffic.chat("model-of-the-bench", size, rng)


def tokens(size: int, rng: random.Random) -> bytes:
    """A completion whose prompt is token ids."""
    return _body({"prompt": [rng.randrange(100, 128000) for _ in range(size * 10 // 67)]})


def escapes(size: int, rng: random.Random) -> bytes:
    """A chat of source code in another script: every third character is written as an escape."""
    line = 'print("\u0434\u0430")\t# "\\n" \u2014 \u00e9\n'
    words = "".join(line[rng.randrange(4) :] for _ in range(size // 55))
    return _body({"messages": [{"role": "user", "content": words}]})


KINDS: dict[str, Callable[[int, random.Random], bytes]] = {"text": text, "tokens": tokens, "escapes": escapes}


def run(bodies: list[bytes], seconds: float) -> dict[str, float]:
    """Find the model again and again for that long."""
    taken: list[int] = []
    clock = time.process_time_ns
    end = time.monotonic() + seconds
    first = clock()
    while time.monotonic() < end:
        for body in bodies:
            began = time.perf_counter_ns()
            found = peek(body, strict=True)
            taken.append(time.perf_counter_ns() - began)
            if found.model != "model-of-the-bench":
                raise SystemExit(f"found {found.model!r}")
    used = clock() - first
    taken.sort()
    return {
        "units": len(taken),
        "cpu_us_per_unit": used / 1e3 / len(taken),
        "p50_us": taken[len(taken) // 2] / 1e3,
        "p99_us": taken[len(taken) * 99 // 100] / 1e3,
        "body_bytes": sum(map(len, bodies)) / len(bodies),
        "per_second": len(taken) * 1e9 / used,
        "errors": 0,
    }


def _body(members: dict[str, object]) -> bytes:
    return json.dumps({"model": "model-of-the-bench", **members, "max_tokens": 16}, separators=(",", ":")).encode()


def main() -> None:
    """Make the bodies, run, print."""
    parser = argparse.ArgumentParser(prog="find_model", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="text")
    parser.add_argument("--size", type=int, default=1 << 20)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    bodies = [KINDS[options.kind](round(options.size * rng.uniform(0.9, 1.1)), rng) for _ in range(_BODIES)]
    gc.freeze()
    run(bodies, min(0.3, options.seconds))
    print(json.dumps(run(bodies, options.seconds)))


if __name__ == "__main__":
    main()
