"""Flags, environment and file to one configuration: defaults < file < environment < flags.

Owns the deriving of flags and environment names from the settings structs, the conversion of text to values, the merge,
and errors that name the source the user wrote in. May not live here: any setting by name, reading of files.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from enginehouse.core.config.base import Config, ConfigError, Option, from_mapping, options

C = TypeVar("C", bound=Config)

PREFIX = "ENGINEHOUSE_"

# What Kubernetes puts into the environment for a Service called `enginehouse-router`: nobody wrote it for us.
INJECTED = re.compile(r"(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP)(_\w+)?)$")
INJECTED_VALUE = re.compile(r"(tcp|udp)://")

NONE: Set[str] = frozenset()
METAVARS = {"s": "SECONDS", "bytes": "BYTES"}


class Setting(NamedTuple):
    """One setting that can be written as text: a leaf of a settings struct, with the way to it."""

    path: tuple[str, ...]
    section: str
    heading: str
    option: Option

    @property
    def key(self) -> str:
        """As it is written in a file: `babysitter.restart_delay`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The derived name in the environment."""
        return f"{PREFIX}{self.section}_{self.option.name}".upper()

    @property
    def repeats(self) -> bool:
        """Whether the flag may be given several times."""
        return get_origin(self.option.type) in (tuple, dict)


def settings(kind: type[Config], section: str) -> Iterator[Setting]:
    """The leaves of a struct, nested structs flattened. Tables of tables are left out: only files can have them."""
    for option in options(kind):
        if is_config(option.type):
            for inner in settings(option.type, option.name):
                yield inner._replace(path=(option.name, *inner.path), heading=option.help)
        elif can_be_text(option.type):
            yield Setting((option.name,), section, option.group or section, option)


def is_config(kind: Any) -> bool:
    """Whether a type is a settings struct."""
    return isinstance(kind, type) and issubclass(kind, Config)


def can_be_text(kind: Any) -> bool:
    """Whether a value of this type can be written in a flag: no table of tables, no table of anything."""
    if get_origin(kind) is tuple:
        return not is_config(get_args(kind)[0])
    return get_origin(kind) is not dict or get_args(kind)[1] is str


def add_flags(parser: argparse.ArgumentParser, kind: type[Config], section: str, derived: Set[str] = NONE) -> None:
    """A flag for every setting that has one, under headings, with unit and default; `derived` keys may be left out."""
    groups: dict[str, Any] = {}
    for setting in settings(kind, section):
        option = setting.option
        if option.flag == "-":
            continue
        if setting.heading not in groups:
            groups[setting.heading] = parser.add_argument_group(setting.heading)
        add = groups[setting.heading].add_argument
        text = _help(setting) + (" (required)" if option.required and setting.key not in derived else "")
        shared: dict[str, Any] = {"dest": setting.key, "default": argparse.SUPPRESS, "help": text}
        if option.type is bool:
            add(option.flag, action=argparse.BooleanOptionalAction, **shared)
        else:
            add(option.flag, action="append" if setting.repeats else "store", metavar=_metavar(setting), **shared)


def build(
    kind: type[C],
    section: str,
    *,
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Mapping[str, Any] | None = None,
    file_name: str = "",
) -> C:
    """Merge the sources into one configuration.

    `flags` has texts (or bools, or lists of texts) under `Setting.key`, as `add_flags` leaves them.
    Raises `ConfigError` that names the flag, the variable or the key of the file.
    """
    merged = _copy(file or {})
    written_as: dict[str, str] = {}
    known = list(settings(kind, section))
    refuse_unknown_variables(known, environment)
    for setting in known:
        for name in (setting.option.env, setting.variable):
            if (text := environment.get(name, "")) and not INJECTED_VALUE.match(text):
                _put(merged, setting.path, from_text(setting, text, name))
                written_as[setting.key] = name
        if setting.key in flags:
            _put(merged, setting.path, from_text(setting, flags[setting.key], setting.option.flag))
            written_as[setting.key] = setting.option.flag
    try:
        return from_mapping(kind, merged)
    except ConfigError as error:
        raise _located(error, known, written_as, file_name) from None


def from_text(setting: Setting, given: Any, source: str) -> Any:
    """The value that a text (or the list of texts of a repeated flag) stands for."""
    wanted = setting.option.type
    if isinstance(given, bool):
        return given
    if get_origin(wanted) is dict:
        return dict(_pair(text, source) for text in _pairs(given))
    if get_origin(wanted) is tuple:
        return _texts(setting, given, source)
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError:
        shown = "" if setting.option.secret else f", got {given!r}"
        raise ConfigError(f"expected {_wanted(wanted)}{shown}", where=source) from None


def refuse_unknown_variables(known: list[Setting], environment: Mapping[str, str]) -> None:
    """A misspelt variable is as wrong as a misspelt key. Raises `ConfigError` with the nearest name."""
    valid = {setting.variable for setting in known}
    prefixes = tuple({f"{PREFIX}{setting.section}_".upper() for setting in known})
    for name in environment:
        if name.startswith(prefixes) and name not in valid and not INJECTED.search(name):
            near = difflib.get_close_matches(name, valid, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else "see `enginehouse --help` for the commands and their settings"
            )
            raise ConfigError(f"no setting has this name; {hint}", where=name)


def _texts(setting: Setting, given: Any, source: str) -> tuple[str, ...]:
    """A list of texts. Arguments of a program are written as in a shell, other lists with commas in the environment."""
    if setting.option.name == "args":
        try:
            return tuple(word for text in ([given] if isinstance(given, str) else given) for word in shlex.split(text))
        except ValueError as error:
            raise ConfigError(f"cannot be split into arguments ({error}): {given!r}", where=source) from None
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return tuple(given)


def _pairs(given: Any) -> Iterator[str]:
    """One NAME=VALUE a text; also several with blanks between them, as the inherited program took them."""
    for text in [given] if isinstance(given, str) else given:
        words = text.split()
        yield from words if len(words) > 1 and all(re.match(r"[A-Za-z_]\w*=", word) for word in words) else [text]


def _pair(text: str, source: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError("expected NAME=VALUE, without blanks around the =", where=source)
    return name, value


def _located(error: ConfigError, known: list[Setting], written_as: Mapping[str, str], file_name: str) -> ConfigError:
    """The same error with the place where the user wrote the value."""
    setting = next((s for s in known if error.key == s.key or error.key.startswith(s.key + "[")), None)
    if setting and (source := written_as.get(setting.key)):
        return ConfigError(error.problem, where=source)
    if missing := re.fullmatch(r"`(\w+)` is missing", error.problem):
        key = f"{error.key}.{missing[1]}".lstrip(".")
        setting = next((s for s in known if s.key == key), None)
        if setting and setting.option.flag != "-":
            where = f"or `{key}` in {file_name or 'a file'}"
            return ConfigError(f"`{key}` is missing: give {setting.option.flag}, {setting.variable} {where}")
    return ConfigError(error.problem, where=file_name, key=error.key)


def _put(into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        inner = into.setdefault(step, {})
        if not isinstance(inner, dict):
            return  # the file has something else there; building the configuration will say so
        into = inner
    into[path[-1]] = value


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in table.items()}


def _help(setting: Setting) -> str:
    """Description, unit and default, with the characters that argparse would interpret escaped."""
    option = setting.option
    text = option.help
    if setting.repeats:
        text += "; repeatable"
    if not option.required and option.default not in ("", (), {}, None):
        text += f" (default: {shown(option.default, option.unit)})"
    return text.replace("%", "%%")


def shown(value: Any, unit: str = "") -> str:
    """A default as it is shown to people, with its unit: `30 s`, `64 MiB`, `on`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if unit == "bytes":
        for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
            if value and value % size == 0:
                return f"{value // size} {name}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".rstrip()


def _metavar(setting: Setting) -> str:
    wanted = setting.option.type
    if get_origin(wanted) is dict:
        return "NAME=VALUE"
    if get_origin(wanted) is not tuple and get_args(wanted):
        return "{" + ",".join(map(str, get_args(wanted))) + "}"
    ending = setting.option.name.rpartition("_")[2]
    text = {"file": "FILE", "url": "URL", "dir": "DIR", "services": "FILE"}.get(ending, "TEXT")
    return METAVARS.get(setting.option.unit) or ("N" if wanted in (int, float) else text)


def _wanted(wanted: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(wanted) or "one of " + ", ".join(map(str, get_args(wanted)))
