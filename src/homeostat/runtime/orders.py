"""What a person asks of a process that runs a home: written down here, carried out there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError

__all__ = ["Order", "OrderFailed", "Orders"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, action TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', outcome TEXT)
"""


class OrderFailed(HomeostatError):
    """The running process could not do what was asked; the text is its own."""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to do: train a model, roll it back, or apply declarations (`reason` has them)."""

    id: int
    action: Literal["train", "rollback", "apply"]
    model: str
    reason: str


class Orders:
    """Orders in SQLite, each carried out at most once.

    An order is taken before it is carried out, so a process that is killed in between leaves it
    undone; its outcome never comes, and the journal tells what happened.

    >>> orders = Orders(Path(":memory:"))
    >>> number = orders.place("rollback", "late", "wrong prices")
    >>> [order.reason for order in orders.take()], orders.take()
    (['wrong prices'], [])
    >>> orders.finish(number, [])
    >>> orders.outcome(number)
    []
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(_SCHEMA)

    def place(self, action: Literal["train", "rollback", "apply"], model: str, reason: str) -> int:
        """Write an order down; return its number."""
        row = self._database.execute(
            "INSERT INTO orders (action, model, reason) VALUES (?, ?, ?) RETURNING id",
            (action, model, reason),
        ).fetchone()
        return int(row[0])

    def take(self) -> list[Order]:
        """Return the orders that wait, oldest first; nobody gets them again."""
        if not self._database.execute(
            "SELECT EXISTS (SELECT 1 FROM orders WHERE state = 'waiting')"
        ).fetchone()[0]:
            return []
        rows = self._database.execute(
            "UPDATE orders SET state = 'taken' WHERE state = 'waiting' "
            "RETURNING id, action, model, reason"
        ).fetchall()
        return [Order(*row) for row in sorted(rows)]

    def withdraw(self, number: int) -> bool:
        """Take an order back; False if it was taken already."""
        done = self._database.execute(
            "DELETE FROM orders WHERE id = ? AND state = 'waiting'", (number,)
        )
        return done.rowcount == 1

    def finish(self, number: int, made: Sequence[Decision] | HomeostatError) -> None:
        """Write down what came of an order."""
        if isinstance(made, HomeostatError):
            outcome = json.dumps({"error": str(made)})
        else:
            outcome = json.dumps({"decisions": [decision.as_json() for decision in made]})
        self._database.execute(
            "UPDATE orders SET state = 'done', outcome = ? WHERE id = ?", (outcome, number)
        )

    def outcome(self, number: int) -> list[Decision] | None:
        """Return the decisions an order led to, None while there is no outcome.

        Raises:
            OrderFailed: it could not be carried out.
        """
        row = self._database.execute(
            "SELECT outcome FROM orders WHERE id = ?", (number,)
        ).fetchone()
        if row is None or row[0] is None:
            return None
        found = json.loads(row[0])
        if "error" in found:
            raise OrderFailed(found["error"])
        return [Decision(**decision) for decision in found["decisions"]]

    def close(self) -> None:
        """Close the file."""
        self._database.close()
