"""`enginehouse demo`: the house of examples/demo.toml, with real small models if they can be had, else simulated.

Owns the preparation of models, the simulated stand-ins, and moving to other ports where the usual ones are taken.
May not live here: the keeping of the house (`up`), where models come from (`engines.models`).
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

import enginehouse
from enginehouse.cli.parser import Parser, fail
from enginehouse.cli.ports import claims, in_use
from enginehouse.cli.up import read_house, run
from enginehouse.core.config.babysitter import BabysitterConfig, Backend
from enginehouse.core.config.base import ConfigError
from enginehouse.core.config.house import HouseConfig

EXAMPLE: Final = Path(enginehouse.__file__).parents[2] / "examples" / "demo.toml"
#: Making a model takes seconds; a machine on which it takes longer than this is better served by simulated engines.
PREPARE_TIMEOUT: Final = 300.0
#: A simulated stand-in answers about as fast as the small model it stands for.
PACE: Final = ("--ttft", "0.1", "--time-per-token", "0.02")

EPILOG = """The engines are llama.cpp's own server with three small models, all out of Python packages; scripts/demo
installs them first. Where they cannot be had, the demo says why and goes on with simulated engines.

Ports that are taken are replaced by free ones. Nothing is left behind: Ctrl-C ends all processes, and only the models
stay in the cache."""


def demo(arguments: list[str]) -> int:
    """A house with real small models, or with simulated ones; Ctrl-C ends all of it."""
    parser = demo_parser()
    given = parser.parse_args(arguments)
    try:
        house = read_house(given.house)
    except ConfigError as error:
        hint = (
            ""
            if EXAMPLE.is_file()
            else "\nThe example is part of the repository; name a house of your own with --house."
        )
        fail(parser.prog, f"{error}{hint}")
    if not given.simulated and (why := unavailable(house)):
        print(f"Real engines cannot be had here: {why}\nGoing on with simulated ones.\n", file=sys.stderr)
        given.simulated = True
    if given.simulated:
        house = simulated(house)
    with tempfile.TemporaryDirectory(prefix="enginehouse-demo-") as folder:
        return run(parser.prog, relocated(logging_to(house, folder)))


def demo_parser() -> Parser:
    """Options of `demo`."""
    parser = Parser("demo", demo.__doc__, EPILOG)
    parser.add_argument(
        "--simulated", action="store_true", help="no models: simulated engines, ready in a second or two"
    )
    parser.add_argument("--house", metavar="FILE", default=str(EXAMPLE), help="another house than examples/demo.toml")
    return parser


def unavailable(house: HouseConfig) -> str:
    """Prepare the models of a house, visibly. Returns why its engines cannot run here, "" if they can."""
    from enginehouse.engines.models import SOURCES

    wanted = sorted({engine.backend.model for engine in house.engine} & SOURCES.keys())
    try:
        subprocess.run([sys.executable, "-c", "import xllamacpp"], check=True, capture_output=True, timeout=60)
        command = [sys.executable, "-m", "enginehouse.engines.models", "prepare", *wanted]
        prepared = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=PREPARE_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        return f"preparing them took longer than {error.timeout:.0f} s"
    except subprocess.CalledProcessError as error:
        missing = "ModuleNotFoundError" in error.stderr.decode(errors="replace")
        return (
            "the package xllamacpp is not installed; scripts/demo installs it"
            if missing
            else (f"llama.cpp does not run on this machine ({_ended(error.returncode)})")
        )
    if prepared.returncode:
        return prepared.stderr.strip().rpartition("\n")[2] or f"preparing the models ended with {prepared.returncode}"
    return ""


def _ended(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def simulated(house: HouseConfig) -> HouseConfig:
    """The same engines under the same names of models, without the models."""
    engines = tuple(msgspec.structs.replace(engine, backend=_stand_in(engine)) for engine in house.engine)
    return msgspec.structs.replace(house, engine=engines)


def _stand_in(engine: BabysitterConfig) -> Backend:
    args = engine.backend.args
    alias = next((after for word, after in itertools.pairwise(args) if word in ("-a", "--alias")), "")
    models = engine.backend.models or (alias or Path(engine.backend.model or engine.name).name,)
    return Backend(type="mock", models=models, args=PACE)


def logging_to(house: HouseConfig, folder: str) -> HouseConfig:
    """The same house with its log files in a folder that goes away with the demo."""
    engines = tuple(
        msgspec.structs.replace(engine, babysitter=msgspec.structs.replace(engine.babysitter, log_dir=folder))
        for engine in house.engine
    )
    return msgspec.structs.replace(house, engine=engines)


def relocated(house: HouseConfig) -> HouseConfig:
    """The same house on ports that are free, as near as possible to the usual ones."""
    taken = {claim.port for claim in claims(house)}

    def free(wanted: int, count: int, host: str) -> int:
        port = wanted
        while any(in_use(host, port + i) or (port != wanted and port + i in taken) for i in range(count)):
            port = port + 10 if port + 20 < 65535 else 10000
        if port != wanted:
            print(f"Port {wanted} is in use by another program: taking {port}.", file=sys.stderr)
        taken.update(range(port, port + count))
        return port

    replace = msgspec.structs.replace
    router = replace(house.router, port=free(house.router.port, 1, house.router.host))
    registry = replace(house.registry, port=free(house.registry.port, 1, house.registry.host))
    engines = tuple(replace(engine, port=free(engine.port, 2, "")) for engine in house.engine)
    return HouseConfig(registry=registry, router=router, engine=engines)
