"""Names that another part could not tell apart: Delta tables and DuckDB take no notice of case."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from homeostat.core.errors import DeclarationError
from homeostat.declare.storage import prediction_table, raw_table

__all__ = ["RESERVED", "table_mistakes", "twin_of", "twins"]

RESERVED = ("decisions", "metrics", "dead_letters")
"""Tables of the warehouse that are not in the lake."""


def twins(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of different names that differ by case alone, each with the first one.

    >>> twins(["id", "at", "ID", "at"])
    (('id', 'ID'),)
    """
    first: dict[str, str] = {}
    found = [(first.setdefault(name.casefold(), name), name) for name in names]
    return tuple(dict.fromkeys((one, other) for one, other in found if one != other))


def twin_of(name: str, others: Collection[str]) -> str | None:
    """Return the name that differs by case alone, None where there is none, or the name itself.

    >>> twin_of("Amount", {"id", "amount"}), twin_of("id", {"id", "ID"})
    ('amount', None)
    """
    if name in others:
        return None
    return next((other for other in others if other.casefold() == name.casefold()), None)


def table_mistakes(sources: Sequence[str], models: Sequence[str]) -> Iterator[DeclarationError]:
    """Yield why sources cannot have tables of their names in the lake and in the warehouse."""
    taken: dict[str, str] = dict.fromkeys(RESERVED, "the warehouse has a table of its own")
    taken |= {
        raw_table(name).casefold(): f"the lake has the received bytes of {name!r}"
        for name in sources
    }
    taken |= {
        prediction_table(name).casefold(): f"the lake has the answers of model {name!r}"
        for name in models
    }
    for name in sources:
        if name.casefold() in taken:
            yield DeclarationError(
                f"event source {name!r}",
                f"{taken[name.casefold()]} under that name",
                f"names that are none of {', '.join(RESERVED)}, raw_SOURCE and predictions_MODEL, "
                "in any case of letters",
                "rename it; how to take the events of a home along is in docs/sources.md, Names",
            )
