"""What would change between the applied declarations and the present ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeostat.core.durations import format_duration
from homeostat.core.hashing import canonical_json, content_hash, plain
from homeostat.declare.system import System
from homeostat.features.state_format import STATE_FORMAT

__all__ = [
    "Change",
    "applied",
    "applied_body",
    "changes_between",
    "has_state_format",
    "plan",
    "record_applied",
    "record_body",
    "write_body",
]

_CONSEQUENCES = {
    ("sources", "added"): "its log and lake table are made with the first event",
    ("sources", "changed"): "new events are read under the new schema; old ones stay as they are",
    ("sources", "removed"): "its log and lake table stay; nothing more is accepted",
    ("views", "added"): "its live features are filled from the lake before they are served",
    ("views", "changed"): "its live features are filled again from the lake, under a new hash",
    ("views", "removed"): "its live features are no longer kept up",
    ("models", "added"): "it is trained when its deployment next runs the loop",
    ("models", "changed"): "the next training uses it; the serving package stays",
    ("models", "removed"): "its packages stay in the registry",
}

SPANS = frozenset(
    {
        "window", "windows", "hop", "delay", "lateness", "clock_skew", "every", "within", "keep",
        "hot", "cooldown", "validation", "test", "history", "deadline", "latency_p99", "freshness",
        "dedup",
    }
)  # fmt: skip
"""Fields that hold spans of time, in microseconds."""

_SINGULAR = {
    "sources": "event source", "views": "view", "models": "model", "deployments": "deployment",
    "monitors": "monitor", "retraining": "retraining", "policies": "policy",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One declaration that differs: `kind` is added, changed or removed."""

    part: str
    name: str
    kind: str
    details: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What differs, as a person names it."""
        return f"{_SINGULAR[self.part]} {self.name!r}"

    @property
    def consequence(self) -> str:
        """What applying the change does."""
        return _CONSEQUENCES.get((self.part, self.kind), "it holds from the next step of the loop")

    def as_json(self) -> dict[str, Any]:
        """Return the change as JSON values."""
        return {
            "part": self.part, "name": self.name, "kind": self.kind,
            "details": list(self.details), "consequence": self.consequence,
        }  # fmt: skip


def _named(system: Mapping[str, Any], part: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in system.get(part, ()):
        subject = value.get("name") or value.get("role")
        if subject is None:
            inner = value.get("model") or value.get("source") or {}
            subject = inner.get("name", "?")
            if part in ("monitors", "policies"):
                subject = f"{value['type']} of {subject}"
            subject += f" ({value['metric']})" if "metric" in value else ""
        found[str(subject)] = _collapsed(part, value)
    return found


def _collapsed(part: str, value: Any) -> Any:
    """Return a declaration with those it is about by their names: they are listed themselves."""
    if part in ("sources", "views", "models") or not isinstance(value, dict):
        return value
    named = {"model", "source", "companions", "sources"}
    return {key: _names(inner) if key in named else inner for key, inner in value.items()}


def _names(value: Any) -> Any:
    if isinstance(value, list):
        return [_names(inner) for inner in value]
    return value["name"] if isinstance(value, dict) and "name" in value else value


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and (by := _labelled(old, new)):
        for label in dict.fromkeys([*by[0], *by[1]]):
            if label not in by[0]:
                yield f"{path}: + {label}"
            elif label not in by[1]:
                yield f"{path}: - {label}"
            else:
                yield from _differences(by[0][label], by[1][label], f"{path}.{label}")
        if list(by[0]) != list(by[1]) and set(by[0]) == set(by[1]):
            yield f"{path}: in another order"
    elif old != new:
        name = path.rpartition(".")[2]
        yield f"{path}: {_short(name, old)} -> {_short(name, new)}"


def _labelled(*lists: list[Any]) -> tuple[dict[str, Any], ...]:
    """Return each list by the labels of its items, nothing if they do not tell items apart."""
    found = tuple(dict(map(_label, items)) for items in lists)
    unlike = all(len(by) == len(items) for by, items in zip(found, lists, strict=True))
    return found if unlike and all(all(by) for by in found) else ()


def _label(item: Any) -> tuple[str, Any]:
    """Return what an item of a list is called, empty if nothing, and what it holds."""
    name = item if isinstance(item, str) else ""
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    if isinstance(item, dict):
        if "view" in item and "feature" in item:
            name = f"{item['view']}__{item['feature']}"
        elif item.get("name"):
            name = str(item["name"])
        elif "operation" in item:
            name = "_".join(str(item[key]) for key in ("column", "operation") if item.get(key))
    return name, item


def _short(name: str, value: Any) -> str:
    if name in SPANS:
        spans = value if isinstance(value, list) else [value]
        return ", ".join(format_duration(s) if type(s) is int else "all time" for s in spans)
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({content_hash(value)[:8]})"


def plan(old: Mapping[str, Any] | None, system: System) -> tuple[Change, ...]:
    """Return the changes from the applied declarations (None: nothing applied yet).

    A view whose live state an earlier release wrote in another format is changed, too.
    """
    return changes_between(old, plain(system))


def changes_between(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes between declarations as JSON values."""
    former = () if old is None or has_state_format(old) else ("live state: in a new format",)
    changes: list[Change] = []
    for part in _SINGULAR:
        before, after = _named(old or {}, part), _named(new, part)
        changes.extend(Change(part, name, "added") for name in after if name not in before)
        changes.extend(Change(part, name, "removed") for name in before if name not in after)
        for name in [name for name in after if name in before]:
            details = tuple(_differences(before[name], after[name], ""))
            details += former if part == "views" else ()
            if details:
                changes.append(Change(part, name, "changed", details))
    return tuple(changes)


def has_state_format(applied: Mapping[str, Any]) -> bool:
    """Whether live state was written in the present format when declarations were applied."""
    return applied.get("state_format") == STATE_FORMAT


def applied(home: Path) -> Mapping[str, Any] | None:
    """Return the declarations that were last applied to a home, or None."""
    path = home / "applied.json"
    if not path.exists():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def record_applied(home: Path, system: System) -> None:
    """Write down that these declarations now hold, atomically."""
    record_body(home, applied_body(system))


def applied_body(system: System) -> str:
    """Return what is written down about declarations that hold."""
    return canonical_json({**plain(system), "state_format": STATE_FORMAT})


def record_body(home: Path, body: str) -> None:
    """Write down that the declarations of `applied_body` now hold, atomically."""
    write_body(home / "applied.json", body)


def write_body(path: Path, body: str) -> None:
    """Write down declarations, atomically."""
    waiting = path.with_name(f"{path.name}.new")
    with waiting.open("w", encoding="utf-8") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    waiting.replace(path)
