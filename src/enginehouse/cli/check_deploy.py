"""Checks of how the programs are installed: systemd units and Containerfiles.

Owns the directives and instructions we know, and what makes a unit safe. May not live here: systemd's own semantics.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from enginehouse.cli.findings import Finding, fail, ok, warn
from enginehouse.cli.main import COMMANDS, command_module
from enginehouse.cli.parser import Parser

DIRECTIVES = {
    "Unit": "Description Documentation After Before Wants Requires PartOf BindsTo Conflicts StartLimitIntervalSec "
    "StartLimitBurst ConditionPathExists AssertPathExists",
    "Service": "Type ExecStart ExecStartPre ExecReload ExecStop Restart RestartSec RestartPreventExitStatus "
    "SuccessExitStatus TimeoutStartSec TimeoutStopSec KillMode KillSignal SendSIGKILL User Group DynamicUser "
    "SupplementaryGroups WorkingDirectory Environment EnvironmentFile StateDirectory StateDirectoryMode LogsDirectory "
    "LogsDirectoryMode RuntimeDirectory CacheDirectory ConfigurationDirectory LoadCredential LimitNOFILE LimitMEMLOCK "
    "LimitCORE TasksMax MemoryMax MemoryHigh OOMPolicy OOMScoreAdjust Nice Slice UMask NoNewPrivileges ProtectSystem "
    "ProtectHome ProtectClock ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables "
    "ProtectControlGroups ProtectProc ProcSubset PrivateTmp PrivateDevices PrivateUsers PrivateNetwork DeviceAllow "
    "ReadOnlyPaths ReadWritePaths InaccessiblePaths BindReadOnlyPaths RestrictAddressFamilies RestrictNamespaces "
    "RestrictRealtime RestrictSUIDSGID RemoveIPC LockPersonality MemoryDenyWriteExecute SystemCallArchitectures "
    "SystemCallFilter SystemCallErrorNumber CapabilityBoundingSet AmbientCapabilities IPAddressAllow IPAddressDeny "
    "StandardOutput StandardError SyslogIdentifier Delegate",
    "Install": "WantedBy RequiredBy Alias Also DefaultInstance",
}
HARDENING = ("NoNewPrivileges", "ProtectSystem", "PrivateTmp", "RestrictAddressFamilies", "CapabilityBoundingSet")
INSTRUCTIONS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR"
)


def unit(path: Path) -> Iterator[Finding]:
    """What is wrong with a systemd unit that starts one of our commands."""
    try:
        lines = list(unit_lines(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        yield fail(f"cannot be read: {error}", "see systemd.syntax(7)")
        return
    given: dict[str, list[str]] = {}
    for section, name, value in lines:
        known = DIRECTIVES.get(section, "").split()
        if not known:
            yield fail(f"there is no section [{section}]", "a service has [Unit], [Service] and [Install]")
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield fail(
                f"unknown directive {name} in [{section}]",
                f"did you mean {near[0]}?" if near else "see systemd.exec(5)",
            )
        if section == "Service":
            given.setdefault(name, []).append(value)
    if not given.get("ExecStart"):
        yield fail("no ExecStart in [Service]", "say what to start: ExecStart=/usr/bin/enginehouse up FILE")
    for command in given.get("ExecStart", []):
        yield from command_line(shlex.split(command.lstrip("@-:+!")))
    yield from _unit_habits(given)


def _unit_habits(given: dict[str, list[str]]) -> Iterator[Finding]:
    if given.get("Restart", ["no"])[-1] not in ("always", "on-failure"):
        yield warn("the service is not restarted when it dies", "Restart=always")
    if not given.keys() & {"User", "DynamicUser"}:
        yield warn("runs as root", "DynamicUser=yes, or User= with a user of its own")
    if given.get("KillMode", [""])[-1] != "mixed":
        yield warn("a stop signals every process at once, children before their parents", "KillMode=mixed")
    if missing := [name for name in HARDENING if name not in given]:
        yield warn(f"not hardened: {', '.join(missing)}", "see the units in deploy/systemd")
    else:
        yield ok("hardened, restarted when it dies, stopped in order")


def unit_lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of every assignment. Raises `ValueError` for a line that is none."""
    section = ""
    for number, line in enumerate(re.sub(r"\\\n\s*", " ", text).splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
            continue
        name, equals, value = line.partition("=")
        if not equals or not section:
            raise ValueError(f"line {number} is neither [Section] nor Name=value: {line!r}")
        yield section, name.strip(), value.strip()


def container(path: Path) -> Iterator[Finding]:
    """What is wrong with a Containerfile."""
    try:
        steps = list(container_lines(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        yield fail(f"cannot be read: {error}", "see Containerfile(5)")
        return
    names = [name for name, _ in steps]
    if not names or next(name for name in [*names, ""] if name != "ARG") != "FROM":
        yield fail("does not begin with FROM", "say on what it builds, e.g. FROM python:3.12-slim")
    stages = set()
    for name, value in steps:
        if name not in INSTRUCTIONS.split():
            near = difflib.get_close_matches(name, INSTRUCTIONS.split(), n=1)
            yield fail(f"unknown instruction {name}", f"did you mean {near[0]}?" if near else "see Containerfile(5)")
        elif name == "FROM":
            image, *rest = value.split()
            if image not in stages and (image.endswith(":latest") or not re.search(r"[:@]", image)):
                yield warn(f"FROM {image} means another image every month", "name a version")
            stages |= set(rest[1:])
        elif name == "COPY" and not value.startswith("--from"):
            yield from _copied(path, value)
    last = dict(steps)
    if last.get("USER", "root").split(":")[0] in ("root", "0"):
        yield warn("runs as root", "USER 65532:65532 before the ENTRYPOINT")
    yield from _entry(last)


def container_lines(text: str) -> Iterator[tuple[str, str]]:
    """Instruction and argument of every step, continuation lines joined. Raises `ValueError` for a line without one."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            if not value:
                raise ValueError(f"an instruction without an argument: {line!r}")
            yield name.upper(), value.strip()


def _copied(path: Path, value: str) -> Iterator[Finding]:
    """What is copied must be there, seen from the folder of the file or from the one above."""
    *sources, _ = [word for word in value.split() if not word.startswith("--")]
    for source in sources:
        if not any((folder / source).exists() for folder in (path.resolve().parent, path.resolve().parent.parent)):
            yield fail(f"COPY {source}: not there", "the build context is the root of the repository")


def _entry(last: dict[str, str]) -> Iterator[Finding]:
    words: list[str] = []
    for name in ("ENTRYPOINT", "CMD"):
        if value := last.get(name):
            try:
                words += json.loads(value)
            except ValueError:
                yield warn(f"{name} in shell form: signals reach the shell, not the program", f'{name} ["…", "…"]')
                return
    if words:
        yield from command_line(words)
    else:
        yield fail("starts nothing", 'ENTRYPOINT ["enginehouse"]')


def command_line(words: list[str]) -> Iterator[Finding]:
    """A command line of ours must name a command that exists and options it has."""
    if Path(words[0]).name != "enginehouse":
        yield warn(f"starts {words[0]}, not enginehouse", "fine if that starts enginehouse in its turn")
        return
    command = words[1] if len(words) > 1 else "--help"
    if command not in COMMANDS:
        yield fail(f"there is no command {command}", f"one of: {', '.join(COMMANDS)}")
        return
    parser: Parser = getattr(command_module(command), f"{command}_parser")()
    flags = [word.split("=")[0] for word in words[2:] if word.startswith("--")]
    unknown = [flag for flag in flags if flag not in parser.flags]
    for flag in unknown:
        yield fail(f"`enginehouse {command}` has no option {flag}", f"see `enginehouse {command} --help`")
    if not unknown:
        yield ok(f"starts `{' '.join([Path(words[0]).name, *words[1:]])}`")
