"""Names of request fields that clients may go on sending: those of earlier declarations.

A request is read as an event is: a field that was renamed is also read under its aliases, and where
both are given, its name counts unless it says nothing. A field that earlier declarations had, and
the event has no more, is left out. Both are counted, and told until clients have stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import msgspec

from homeostat.declare.schema import EventSchema, Field

__all__ = ["FormerFields", "former_names"]

ENOUGH = 50
"""A former name that so many requests in a row did not have is told no more."""


def former_names(schema: EventSchema, known: Collection[str] = ()) -> dict[str, str]:
    """Return by former name of a field its present name, "" for one that is gone.

    Args:
        schema: the event as it is declared.
        known: names that earlier declarations had.

    >>> tap = EventSchema("Tap", (Field("price", "float", aliases=("amount",)),))
    >>> former_names(tap, ["amount", "note", "price"])
    {'amount': 'price', 'note': ''}
    """
    renamed = {alias: field.name for field in schema.fields for alias in field.aliases}
    gone = {n: "" for n in sorted(known) if n not in renamed and not schema.has(n)}
    return renamed | gone


class FormerFields:
    """Reads requests to one model that have names of earlier declarations, and counts them.

    Args:
        schema: the request's event as it is declared.
        known: names that earlier declarations had.
        count: told of a model's requests that had a name, and of how many they are.

    >>> tap = EventSchema("Tap", (Field("price", "float", aliases=("amount",)),))
    >>> former = FormerFields(tap, ["note"])
    >>> former.present({"amount": 2.5, "note": "x"})
    {'price': 2.5}
    >>> list(former.notes())
    []
    >>> former.watch([{"amount": 2.5, "note": "x"}])
    >>> len(list(former.notes()))
    2
    """

    def __init__(
        self,
        schema: EventSchema,
        known: Collection[str] = (),
        count: Callable[[str, int], None] = lambda name, requests: None,
    ) -> None:
        self.names: Mapping[str, str] = former_names(schema, known)
        self._renamed = tuple(f for f in schema.fields if f.aliases)
        self._count, self._lock = count, Lock()
        self._sent: Counter[str] = Counter()
        self._without: dict[str, int] = {}

    def has(self, row: Mapping[Any, Any]) -> bool:
        """Return whether a request has a former name."""
        return not self.names.keys().isdisjoint(row)

    def present(self, row: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return a request under the present names, without what is gone.

        Args:
            row: values by name, or the JSON of each.
        """
        found = {name: value for name, value in row.items() if name not in self.names}
        for field in self._renamed:
            for alias in field.aliases:
                if alias in row and _says_nothing(field, found):
                    found[field.name] = row[alias]
        return found

    def watch(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        """Count the former names in requests that were read, as they came."""
        if not self.names:
            return
        told = {name: sum(name in row for row in rows) for name in self.names}
        with self._lock:
            for name, sent in told.items():
                if sent:
                    self._sent[name] += sent
                    self._without[name] = 0
                elif name in self._without:
                    self._without[name] += len(rows)
        for name, sent in told.items():
            if sent:
                self._count(name, sent)

    def passed(self, requests: int) -> None:
        """Count requests that had no former name."""
        if self._without:
            with self._lock:
                for name in self._without:
                    self._without[name] += requests

    def notes(self) -> Iterator[str]:
        """Yield which former names clients still send."""
        with self._lock:
            sent = {n: self._sent[n] for n, since in self._without.items() if since < ENOUGH}
        for name, requests in sorted(sent.items()):
            number = f"{requests:,} request{'s' if requests > 1 else ''}"
            if self.names[name]:
                yield (
                    f"{number} had {name!r}, the former name of {self.names[name]!r}: it is read "
                    "as that"
                )
            else:
                yield f"{number} had {name!r}, which is no field any more: it is ignored"


def _says_nothing(field: Field, row: Mapping[Any, Any]) -> bool:
    """Whether a request says nothing under a field's name: it is absent, null, or the default."""
    value = row.get(field.name)
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    return value is None or (
        field.default is not None and type(value) is type(field.default) and value == field.default
    )
