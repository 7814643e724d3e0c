"""The contestants: one file each says how it is installed, configured, started and what it is.

Owns the table of them. May not live here: what they do.
"""

from bench.proxy.contestants.base import Contestant
from bench.proxy.contestants.enginehouse import Enginehouse
from bench.proxy.contestants.nginx import Nginx

ALL: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Enginehouse(),
        Nginx(),
        Nginx("nginx-memory", body_memory="4m"),
    )
}
