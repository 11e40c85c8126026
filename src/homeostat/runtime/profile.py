"""Reads the profile: `homeostat.toml` beside the system names what is outside the home.

`${NAME}` in a text is the environment variable of that name, so that no secret stands in the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from homeostat.core.durations import Micros
from homeostat.core.errors import DeclarationError, HomeostatError, UnknownName
from homeostat.declare.kafka import Kafka, Topic
from homeostat.declare.log_keep import LogKeep
from homeostat.declare.storage import AT_HOME, Storage
from homeostat.declare.system import System
from homeostat.runtime.prediction_writer import LogPredictions
from homeostat.runtime.timeline import AS_STEPS, StepInvalid, parse_step

__all__ = [
    "FILE",
    "Profile",
    "ProfileInvalid",
    "load_log",
    "load_profile",
    "load_storage",
    "read_profile",
]

FILE = "homeostat.toml"
SECTIONS = ("kafka", "lake", "log", "loop", "predictions")

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ProfileInvalid(HomeostatError, ValueError):
    """A profile that cannot be read."""

    def __init__(self, where: str, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"profile {where}: {found}; allowed: {allowed}; {next_step}.")


@dataclass(frozen=True, slots=True)
class Profile:
    """What is outside the home, None for what is not used; and how long its log keeps records.

    `predictions` says whether an answer leaves before it is durable ("soon") or not ("sync");
    `step` how often the loop looks, in microseconds, None for every ten minutes.
    """

    kafka: Kafka | None = None
    log: LogKeep | None = None
    storage: Storage = AT_HOME
    predictions: LogPredictions = "soon"
    step: Micros | None = None


def load_profile(system_file: Path, system: System) -> Profile:
    """Return the profile beside a system's file, an empty one if there is none."""
    path = system_file.parent / FILE
    if not path.exists():
        return Profile()
    found = read_profile(path.read_text(encoding="utf-8"), system, str(path))
    return replace(found, storage=_beside(found.storage, path))


def load_storage(system_file: Path) -> Storage:
    """Return where the profile beside a system's file says the lake is.

    Of the rest only the names of the sections are looked at. So a command that only opens a home
    needs no password of what it does not use. A folder is counted from where the profile is.
    """
    path = system_file.parent / FILE
    if not path.exists():
        return AT_HOME
    said = _parsed(path.read_text(encoding="utf-8"), str(path))
    _known(said, SECTIONS, "section", str(path))
    filled = _filled(_table(said.get("lake", {}), f"{path}, [lake]"), str(path))
    return _beside(_storage(filled, str(path)), path)


def load_log(system_file: Path, system: System) -> Kafka | None:
    """Return the cluster that the log is in as the profile says, None if the home has it.

    What the cluster needs is asked for then, passwords included, and of the rest nothing.
    """
    path = system_file.parent / FILE
    if not path.exists():
        return None
    where = str(path)
    said = _parsed(path.read_text(encoding="utf-8"), where)
    kafka = _table(said.get("kafka", {}), f"{where}, [kafka]")
    if "log" not in kafka:
        return None
    _require_broker_keeps(_log(_table(said.get("log", {}), f"{where}, [log]"), where), where)
    return _kafka(_filled(kafka, where), system, where)


def _beside(storage: Storage, profile: Path) -> Storage:
    """Return a storage with its folders counted from the profile's."""

    def place(given: str | None) -> str | None:
        if given is None or "://" in given:
            return given
        return str(profile.parent.absolute() / given)

    return replace(storage, location=place(storage.location), cold=place(storage.cold))


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileInvalid(where, str(error), "TOML", "correct that line") from error


def read_profile(text: str, system: System, where: str = FILE) -> Profile:
    """Return the profile that a TOML text describes, checked against the system.

    >>> from homeostat.testing.toy import toy_system
    >>> text = '[kafka]\\nbrokers = "localhost:9092"\\n[kafka.sources.payments]\\ntopic = "paid"'
    >>> read_profile(text, toy_system()).kafka.of("payments").topic
    'paid'
    """
    said = _filled(_parsed(text, where), where)
    _known(said, SECTIONS, "section", where)
    kafka = None
    if "kafka" in said:
        kafka = _kafka(_table(said["kafka"], f"{where}, [kafka]"), system, where)
    keep = _log(_table(said.get("log", {}), f"{where}, [log]"), where)
    if kafka is not None and kafka.log is not None:
        _require_broker_keeps(keep, where)
    return Profile(
        kafka,
        keep,
        _storage(_table(said.get("lake", {}), f"{where}, [lake]"), where),
        _predictions(_table(said.get("predictions", {}), f"{where}, [predictions]"), where),
        _step(_table(said.get("loop", {}), f"{where}, [loop]"), where),
    )


def _step(said: dict[str, Any], where: str) -> Micros | None:
    inside = f"{where}, [loop]"
    _known(said, ("step",), "setting", inside)
    if "step" not in said:
        return None
    try:
        return parse_step(said["step"])
    except StepInvalid as wrong:
        raise ProfileInvalid(
            inside, f"step = {wrong.got!r}", AS_STEPS, 'write step = "10m", or leave it out'
        ) from wrong


def _predictions(said: dict[str, Any], where: str) -> LogPredictions:
    inside = f"{where}, [predictions]"
    _known(said, ("log",), "setting", inside)
    found = said.get("log", "soon")
    if found == "sync":
        return "sync"
    if found != "soon":
        raise ProfileInvalid(
            inside, f"log = {found!r}", '"soon" (durable within 250 ms) or "sync" (before the '
            "answer leaves)", 'write log = "sync", or leave it out',
        )  # fmt: skip
    return "soon"


def _log(said: dict[str, Any], where: str) -> LogKeep | None:
    inside = f"{where}, [log]"
    _known(said, [field.name for field in fields(LogKeep)], "setting", inside)
    return _made(LogKeep, said, inside) if said else None


def _require_broker_keeps(keep: LogKeep | None, where: str) -> None:
    """Refuse a retention of a log in Kafka."""
    if keep is not None:
        raise ProfileInvalid(
            f"{where}, [log]", "a retention, and the log is in Kafka, as [kafka] log says",
            "one of them: the broker keeps such a log, for ever", "drop keep and keep_bytes",
        )  # fmt: skip


def _storage(said: dict[str, Any], where: str) -> Storage:
    inside = f"{where}, [lake]"
    _known(said, [f.name for f in fields(Storage)], "setting", inside)
    said["prices"] = _table(said.get("prices", {}), f"{where}, [lake.prices]")
    for name in ("location", "cold", "currency"):
        if not isinstance(said.get(name, ""), str):
            raise ProfileInvalid(
                inside, f"{name} = {said[name]!r}", "a text", f'write {name} = "..."'
            )
    storage: Storage = _made(Storage, said, inside)
    return storage


def _kafka(said: dict[str, Any], system: System, where: str) -> Kafka:
    inside = f"{where}, [kafka]"
    _known(said, ("brokers", "group", "registry", "client", "log", "sources"), "setting", inside)
    topics = []
    sources = _table(said.pop("sources", {}), f"{inside} sources")
    _known(sources, [source.name for source in system.sources], "source", inside)
    for name, given in sources.items():
        here = f"{where}, [kafka.sources.{name}]"
        source = system.source(name)
        given = _table(given, here)
        _known(given, [f.name for f in fields(Topic) if f.name != "source"], "setting", here)
        for field in filter(None, (given.get("key"), *given.get("headers", {}))):
            _known({field: None}, source.schema.names(), "field", here)
        topics.append(_made(Topic, {"source": name, **given}, here))
    said.setdefault("group", f"homeostat-{system.name}")
    kafka: Kafka = _made(Kafka, {"brokers": "", **said, "topics": tuple(topics)}, inside)
    return kafka


def _made(declare: Callable[..., Any], given: dict[str, Any], where: str) -> Any:
    try:
        return declare(**given)
    except DeclarationError as mistake:
        raise ProfileInvalid(
            where, f"{mistake.where}: {mistake.found}", mistake.allowed, mistake.next_step
        ) from mistake


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProfileInvalid(where, f"{value!r}", "a table of settings", "write name = value")
    return dict(value)


def _known(said: Mapping[str, object], names: Any, kind: str, where: str) -> None:
    for name in said:
        if name not in names:
            raise UnknownName(kind, name, tuple(names), f"profile {where}")


def _filled(value: Any, where: str) -> Any:
    """Return a value with the environment's variables in its texts."""
    if isinstance(value, dict):
        return {name: _filled(inner, where) for name, inner in value.items()}
    if not isinstance(value, str):
        return value

    def variable(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ProfileInvalid(
                where, f"${{{name}}}: there is no such environment variable",
                "a variable that is set", f"export {name}=...",
            )  # fmt: skip
        return os.environ[name]

    return _VARIABLE.sub(variable, value)
