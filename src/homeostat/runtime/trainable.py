"""Whether declared estimators could be trained: what `check` says, wherever declarations enter.

Only new and changed ones are asked: they are imported and made, and what holds already is no reason
to keep a champion from answering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import plain
from homeostat.declare.system import System

__all__ = ["NotTrainable", "require_trainable", "untrainable"]


class NotTrainable(HomeostatError):
    """Declared estimators that no training could use."""

    def __init__(self, mistakes: Sequence[HomeostatError]) -> None:
        self.mistakes = tuple(mistakes)
        told = " ".join(map(str, mistakes))
        super().__init__(f"declarations: {told} `homeostat check` says so, too, of all at once.")


def untrainable(before: Mapping[str, Any] | None, system: System) -> list[HomeostatError]:
    """Return what `check` says against the estimators that are not those applied.

    Args:
        before: the declarations that were applied; None if none were.
        system: those that are to hold.
    """
    old = {body["name"]: _of_training(body) for body in (before or {}).get("models", ())}
    changed = [m for m in system.models if old.get(m.name) != _of_training(plain(m))]
    if not changed:  # nothing of machine learning is imported
        return []
    from homeostat.train.estimators import estimator_mistakes

    return list(estimator_mistakes(changed))


def require_trainable(before: Mapping[str, Any] | None, system: System) -> None:
    """Raise `NotTrainable` if `untrainable` finds anything."""
    mistakes = untrainable(before, system)
    if mistakes:
        raise NotTrainable(mistakes)


def _of_training(model: Mapping[str, Any]) -> tuple[Any, Any]:
    return model["estimator"], model["requirements"].get("explain")
