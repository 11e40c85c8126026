"""What the loop decided, when and why: plain values that a journal keeps and a fold reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash, plain

__all__ = ["ACTIONS", "Action", "Decision", "DecisionInvalid"]

Action = Literal[
    "train",  # train a challenger
    "reject",  # a trained challenger stays out: gates failed
    "shadow",  # the challenger answers beside the champion
    "canary",  # the challenger answers a share of the requests
    "blue_green",  # the challenger answers all requests, the champion stays loaded
    "hold",  # a rollout step goes on, for a journaled reason
    "promote",  # the challenger becomes the champion
    "rollback",  # the version is withdrawn, the one before it answers
    "give_up",  # a version may stop answering: it cannot be given its features any more
    "alert",  # a finding opens
    "clear",  # a finding closes
]
ACTIONS: tuple[str, ...] = get_args(Action)


class DecisionInvalid(HomeostatError, ValueError):
    """A decision that could not be journaled and read back as it was."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"decision: {found}; allowed: {allowed}; decide with plain values.")


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision with its evidence; equal decisions have the same `id` on every machine.

    `at` is the instant of deciding (microseconds UTC), `model` the model or other subject,
    `version` the model version acted on. `evidence` holds JSON values only, and is copied.

    >>> import json
    >>> d = Decision(5, "late", "promote", "guards held", 2, {"auc": 0.75})
    >>> Decision.from_json(json.dumps(d.as_json())) == d
    True
    """

    at: Micros
    model: str
    action: Action
    reason: str
    version: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise DecisionInvalid(f"action {self.action!r}", ", ".join(ACTIONS))
        try:
            text = json.dumps(plain(self.evidence), sort_keys=True, allow_nan=False)
        except (HomeostatError, ValueError) as unreadable:
            raise DecisionInvalid(
                f"evidence of {self.action} of {self.model!r} is not JSON ({unreadable})",
                "texts, finite numbers, booleans, None, lists and mappings",
            ) from unreadable
        object.__setattr__(self, "evidence", json.loads(text))

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this decision by its content."""
        return content_hash(self)[:16]

    def as_json(self) -> dict[str, Any]:
        """Return this decision as JSON values, for a journal or a report."""
        names = ("at", "model", "action", "reason", "version", "evidence")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Return the decision whose `as_json` was written as `text`."""
        return cls(**json.loads(text))
