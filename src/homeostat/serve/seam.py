"""The seam between HTTP and the system behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, TypeAlias

from homeostat.core.errors import HomeostatError
from homeostat.serve.answer import Answer, ModelStatus, Readiness, Record
from homeostat.serve.former_fields import FormerFields
from homeostat.serve.needs import Needs
from homeostat.serve.predictor import Shed

__all__ = ["Behind", "Ingested", "Request", "Service", "Ticket"]

Request: TypeAlias = dict[str, Any]


class Ticket:
    """One call's right to be answered, once: by the model, or by the fallback at the deadline.

    Args:
        began: the stopwatch when the call was received.
        shed: the cause, where the call is answered by fallbacks from the start.
        divisible: it has several requests, which are asked again one by one if it is late.

    >>> ticket = Ticket(0)
    >>> ticket.claim(), ticket.claim()
    (True, False)
    """

    __slots__ = ("_lock", "_open", "began", "divisible", "shed")

    def __init__(self, began: int, shed: Shed | None = None, divisible: bool = False) -> None:
        self.began, self.shed, self.divisible = began, shed, divisible
        self._open, self._lock = True, Lock()

    @property
    def is_open(self) -> bool:
        """Whether nobody has answered yet."""
        return self._open

    def claim(self) -> bool:
        """Take the right to answer; True for the first who asks."""
        with self._lock:
            mine, self._open = self._open, False
        return mine


@dataclass(frozen=True, slots=True)
class Ingested:
    """Events taken into the log: where the first one lies, and how many there are."""

    source: str
    first_offset: int
    events: int


class Behind(HomeostatError):
    """Events are refused for now: too many of the source wait to be folded.

    Args:
        source: the event source.
        waiting: how many records wait.
        allowed: how many may.
        retry_after_s: when there should be room again.
    """

    retryable = True

    def __init__(self, source: str, waiting: int, allowed: int, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"events of {source!r}: {waiting:,} records wait to be folded; allowed: {allowed:,}"
        )


class Service(Protocol):
    """What the HTTP application asks of the system behind it."""

    def predict(
        self, model: str, requests: list[Request], reasons: bool, ticket: Ticket | None = None
    ) -> list[Answer]:
        """Answer requests of a model, each by itself.

        Empty if the ticket was claimed by someone else, or is divisible and its call was late.
        """
        ...

    def needs(self, model: str) -> Needs:
        """Return what requests to a model must bring now."""
        ...

    def former(self, model: str) -> FormerFields:
        """Return what reads the names that requests to a model had before."""
        ...

    def check(self, model: str, requests: list[Request]) -> None:
        """Raise what `predict` would raise for requests that cannot be answered."""
        ...

    def ingest(self, source: str, payloads: Sequence[bytes]) -> Ingested:
        """Append events to the log of a source, all or none; raise `Behind` where it is full."""
        ...

    def prediction(self, prediction_id: str) -> Record | None:
        """Return a recent prediction."""
        ...

    def models(self) -> list[ModelStatus]:
        """Return which versions are in service."""
        ...

    def ready(self) -> Readiness:
        """Return whether requests can be answered."""
        ...
