"""`python -m enginehouse.sim '{"name": "a", "port": 0}'`: a simulated engine from settings as JSON; `-` reads them from
standard input. It starts faster than the command line, which benchmarks and tests care about.

Owns only that. May not live here: flags (the command line's).
"""

from __future__ import annotations

import sys

import msgspec

from enginehouse.core.config.base import ConfigError, from_mapping
from enginehouse.core.config.sim import SimConfig
from enginehouse.sim.server import main

if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) == 2 else "{}"
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.read() if given == "-" else given, type=dict[str, object])
        config = from_mapping(SimConfig, settings, "settings")
    except (msgspec.DecodeError, ConfigError) as error:
        sys.exit(str(error))
    sys.exit(main(config))
