"""The base of every settings struct, and the one way a setting is described.

Owns: `Config` (frozen, unknown keys refused), `option()` (description, unit, flag and environment name of a field) and
`from_mapping()` (plain data to a struct, errors that name the key and the nearest valid one).
May not live here: any setting itself, reading of files or of the environment (the command line does that).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

C = TypeVar("C", bound="Config")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: immutable, keyword-only, unknown keys refused."""


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the source, the key, what is wrong and what to write instead."""

    def __init__(self, problem: str, *, where: str = "", key: str = "") -> None:
        self.problem, self.where, self.key = problem, where, key
        super().__init__(": ".join(part for part in (where, key and f"`{key}`", problem) if part))


def option(
    help: str,
    *,
    unit: str = "",
    flag: str = "",
    env: str = "",
    group: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
    secret: bool = False,
) -> msgspec.Meta:
    """Describe a field, once, for the TOML file, the flags, the environment and the reference page.

    `flag` overrides the derived `--kebab-case` name ("" derives it, "-" means no flag), `env` gives an inherited
    environment name besides the derived `ENGINEHOUSE_<SECTION>_<FIELD>`; `group` is the heading in help texts of this
    field and of those that follow it; `secret` values are never shown.
    """
    extra = {"unit": unit, "flag": flag, "env": env, "group": group, "secret": secret}
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "pattern": pattern}
    return msgspec.Meta(description=help, extra=extra, **bounds)


class Option(NamedTuple):
    """One setting as the command line and the reference page see it."""

    name: str
    type: Any
    default: Any
    required: bool
    help: str
    unit: str
    flag: str
    env: str
    group: str
    secret: bool


def options(kind: type[Config]) -> Iterator[Option]:
    """Every field of a settings struct, in order, with its description."""
    hints = get_type_hints(kind, include_extras=True)
    group = ""
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        meta = next((m for m in get_args(hint)[1:] if isinstance(m, msgspec.Meta)), msgspec.Meta())
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        extra = meta.extra or {}
        group = extra.get("group") or group
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        yield Option(
            name=field.encode_name,
            type=bare,
            default=default,
            required=field.required,
            help=meta.description or "",
            unit=extra.get("unit", ""),
            flag=extra.get("flag", "") or "--" + field.encode_name.replace("_", "-"),
            env=extra.get("env", ""),
            group=group,
            secret=bool(extra.get("secret")),
        )


def from_mapping(kind: type[C], data: Mapping[str, Any], where: str = "") -> C:
    """Build `kind` from plain data (a parsed TOML table). `where` names the source in errors.

    Raises `ConfigError` for an unknown key (with the nearest valid name), a missing key or a wrong type.
    """
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        key = path.strip("`").removeprefix("$").removeprefix(".")
        raise ConfigError(_explain(problem, kind, key, data), where=where, key=key) from None


def _explain(problem: str, kind: type[Config], key: str, data: Any) -> str:
    """msgspec's words with what it leaves out: the nearest valid key, the valid choices, the value that was given."""
    steps = re.findall(r"\[\.{3}\]|[^.\[\]]+", key)
    if problem.startswith("Object contains unknown field"):
        unknown = problem.split("`")[1]
        near = difflib.get_close_matches(unknown, sorted(_all_names(kind, set())), n=1, cutoff=0.5)
        there = _at(kind, steps)
        valid = ", ".join(o.name for o in options(there)) if isinstance(there, type) else ""
        return f"unknown key `{unknown}`; " + (f"did you mean `{near[0]}`?" if near else f"valid keys: {valid}")
    if problem.startswith("Object missing required field"):
        return f"`{problem.split('`')[1]}` is missing"
    if problem.startswith("Invalid enum value"):
        return f"must be one of {', '.join(map(str, _choices(_at(kind, steps))))}, not {problem.split()[-1]}"
    wanted = problem.split(", got")[0].replace("`", "").replace("Expected", "expected")
    if wanted in SHAPES:
        return f"expected {SHAPES[wanted]}"
    for step in steps:
        data = data[int(step)] if isinstance(data, list | tuple) else data.get(step) if isinstance(data, dict) else None
    return wanted + (f", got {data!r}" if isinstance(data, bool | int | float | str) else "")


SHAPES = {"expected array": "a list, as in [[name]] or name = [...]", "expected object": "a table, as in [name]"}


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a Literal, also of one that may be left out."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((get_args(arg) for arg in get_args(kind) if get_origin(arg) is Literal), ())


def _at(kind: Any, steps: list[str]) -> Any:
    """The type found by following keys, list positions and (unnamed) table entries down from `kind`."""
    for step in steps:
        if isinstance(kind, type) and issubclass(kind, Config):
            kind = next((o.type for o in options(kind) if o.name == step), None)
        else:  # tuple[X, ...] or dict[str, X]
            kind = next((arg for arg in get_args(kind) if arg not in (str, Ellipsis)), str)
    return kind


def _all_names(kind: Any, seen: set[Any]) -> set[str]:
    """Names of the fields of a struct and of the structs inside it."""
    names: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, Config):
        if kind in seen:
            return names
        seen.add(kind)
        for opt in options(kind):
            names |= {opt.name} | _all_names(opt.type, seen)
    for arg in get_args(kind):
        names |= _all_names(arg, seen)
    return names
