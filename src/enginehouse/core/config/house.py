"""Settings of a whole house: what `enginehouse up FILE` reads. Owns only the composition of the parts' settings."""

from __future__ import annotations

from typing import Annotated

from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import Config, option
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig


class HouseConfig(Config, frozen=True):
    """A house on one machine. Each `[[engine]]` has the shape of a babysitter's own file."""

    registry: Annotated[RegistryConfig, option("the registry")] = RegistryConfig()
    router: Annotated[RouterConfig, option("the router")] = RouterConfig()
    engine: Annotated[tuple[BabysitterConfig, ...], option("the engines, one babysitter each")] = ()
