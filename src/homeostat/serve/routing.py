"""Which version answers which request: a pure function of the request's id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import unit_interval
from homeostat.serve.needs import Needs
from homeostat.serve.ports import Broken, Faults, Scores

if TYPE_CHECKING:
    from homeostat.serve.lookup import Lookup

__all__ = ["ROLES", "Arm", "Route", "load_arm"]

ROLES = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True)
class Arm:
    """One loaded version of a model; a score of at least `threshold` is a positive decision.

    `lookup` finds the features that the version was trained with, where they are not those that
    are declared today; versions of the same features share it. `needs` is what a request must
    bring for a version that cannot be loaded.
    """

    version: int
    servable: Scores
    threshold: float
    lookup: Lookup | None = None
    needs: Needs | None = None

    def reads(self, today: Needs) -> Needs:
        """Return what a request must bring for this version; `today` is the declared model's."""
        if self.lookup is not None:
            return self.lookup.needs
        return today if self.needs is None else self.needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which versions answer a model's requests at this moment.

    `share` of the requests goes to the challenger; with `shadow` it also scores the others beside
    the champion, unseen. `previous` is the champion before this one, for the fallback of that
    name. `salt` names the rollout, so that each rollout draws its own requests.
    """

    champion: Arm | None = None
    challenger: Arm | None = None
    previous: Arm | None = None
    share: float = 0.0
    shadow: bool = False
    salt: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise HomeostatError(f"route: share={self.share}; allowed: 0 to 1; pass a share.")

    @property
    def arms(self) -> tuple[Arm | None, ...]:
        """The versions, in the order of `ROLES`."""
        return (self.champion, self.challenger, self.previous)

    def needs(self, today: Needs) -> Needs:
        """Return what requests must bring while this route holds: what the champion needs.

        Args:
            today: what the model as it is declared needs, which holds where there is no champion.
        """
        return today if self.champion is None else self.champion.reads(today)

    def takes_challenger(self, model: str, request_id: str) -> bool:
        """Return whether the challenger answers this request; the same for the same id.

        >>> Route(share=0.5).takes_challenger("late", "UA1545")
        False
        """
        if self.challenger is None or self.share <= 0:
            return False
        return unit_interval(model, request_id, self.salt) < self.share


def load_arm(
    version: int,
    threshold: float,
    load: Callable[[], Scores],
    faults: Faults,
    lookup: Lookup | None = None,
) -> Arm:
    """Load a version; one that cannot be loaded becomes an arm that its fallbacks stand in for.

    Args:
        version: the version in the registry.
        threshold: the score from which a decision is positive.
        load: loads the servable model, by whatever means.
        faults: told of the failure.
        lookup: finds its features, where they are not those of today.
    """
    try:
        servable = load()
    except Exception as broken:  # noqa: BLE001 - any failure to load has one declared answer
        faults("load", broken)
        servable = Broken(f"version {version} cannot be loaded: {broken}")
    return Arm(version, servable, threshold, lookup)
