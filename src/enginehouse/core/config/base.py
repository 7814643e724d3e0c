"""The base of every settings struct, and the one way a setting is described.

Owns: `Config` (frozen, unknown keys refused), `option()` (description, unit, flag and environment name of a field) and
`from_mapping()` (plain data to a struct, errors that name the key and the nearest valid one).
May not live here: any setting itself, reading of files or of the environment (the command line does that).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

C = TypeVar("C", bound="Config")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: immutable, keyword-only, unknown keys refused."""


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, what is wrong and what to write instead."""


def option(
    help: str,
    *,
    unit: str = "",
    flag: str = "",
    env: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
    secret: bool = False,
) -> msgspec.Meta:
    """Describe a field, once, for the TOML file, the flags, the environment and the reference page.

    `flag` overrides the derived `--kebab-case` name ("" derives it, "-" means no flag), `env` gives an inherited
    environment name besides the derived `ENGINEHOUSE_<SECTION>_<FIELD>`; `secret` values are never shown.
    """
    extra = {"unit": unit, "flag": flag, "env": env, "secret": secret}
    return msgspec.Meta(description=help, ge=ge, gt=gt, le=le, pattern=pattern, extra=extra)


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
    secret: bool


def options(kind: type[Config]) -> Iterator[Option]:
    """Every field of a settings struct, in order, with its description."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        meta = next((m for m in get_args(hint)[1:] if isinstance(m, msgspec.Meta)), msgspec.Meta())
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        extra = meta.extra or {}
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
            secret=bool(extra.get("secret")),
        )


def from_mapping(kind: type[C], data: Mapping[str, Any], where: str = "") -> C:
    """Build `kind` from plain data (a parsed TOML table). `where` names the source in errors.

    Raises `ConfigError` for an unknown key (with the nearest valid name), a missing key or a wrong type.
    """
    prefix = f"{where}: " if where else ""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(prefix + _explain(str(error), kind)) from None


def _explain(message: str, kind: type[Config]) -> str:
    """msgspec's own words, with the nearest valid key where a key is unknown."""
    if "unknown field" not in message:
        return message
    unknown = message.split("`")[1]
    names = sorted(_all_names(kind, set()))
    near = difflib.get_close_matches(unknown, names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"valid keys: {', '.join(o.name for o in options(kind))}"
    return f"unknown key `{unknown}`{_path(message)}; {hint}"


def _path(message: str) -> str:
    return f" at `{message.rsplit('`', 2)[1]}`" if " - at " in message else ""


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
