"""What would change between the applied declarations and the present ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeostat.core.hashing import canonical_json, content_hash, plain
from homeostat.declare.system import System

__all__ = ["Change", "applied", "plan", "record_applied"]

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
            subject = f"{value['type']} of {inner.get('name', '?')}"
            subject += f" ({value['metric']})" if "metric" in value else ""
        found[str(subject)] = value
    return found


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({content_hash(value)[:8]})"


def plan(old: Mapping[str, Any] | None, system: System) -> tuple[Change, ...]:
    """Return the changes from the applied declarations (None: nothing applied yet)."""
    new = plain(system)
    changes: list[Change] = []
    for part in _SINGULAR:
        before, after = _named(old or {}, part), _named(new, part)
        changes.extend(Change(part, name, "added") for name in after if name not in before)
        changes.extend(Change(part, name, "removed") for name in before if name not in after)
        changes.extend(
            Change(part, name, "changed", tuple(_differences(before[name], after[name], "")))
            for name in after
            if name in before and before[name] != after[name]
        )
    return tuple(changes)


def applied(home: Path) -> Mapping[str, Any] | None:
    """Return the declarations that were last applied to a home, or None."""
    path = home / "applied.json"
    if not path.exists():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def record_applied(home: Path, system: System) -> None:
    """Write down that these declarations now hold, atomically."""
    waiting = home / "applied.json.new"
    waiting.write_text(canonical_json(system))
    waiting.replace(home / "applied.json")
