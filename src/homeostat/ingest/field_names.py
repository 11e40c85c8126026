"""Column names and keys against the fields of an event: blanks around them, and misspellings.

A name is a misspelling of a field's if both have the same letters and digits once case, blanks and
signs are left out, or if two neighbouring characters changed places: nobody means two things by
`amount` and `Amount`, or by `amount` and `amuont`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from homeostat.declare.schema import EventSchema

__all__ = ["folded", "may_misspell", "misspellings", "nearest", "stripped", "unfilled"]

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"


def stripped(name: str) -> str:
    r"""Return a column's name without what cannot be seen at its edges.

    >>> stripped("\u00a0amount \ufeff")
    'amount'
    """
    before = None
    while name != before:
        before, name = name, name.strip().strip(_INVISIBLE)
    return name


def folded(name: str) -> str:
    """Return the letters and digits of a name, without case.

    >>> folded(" Trans-ID") == folded("trans_id")
    True
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def misspellings(schema: EventSchema, names: Iterable[str]) -> dict[str, str]:
    """Return the optional fields that nothing fills though a name is most likely theirs.

    Args:
        schema: the event.
        names: the columns of a table, or the keys of an object.

    Returns:
        That name by the field's; names of fields, present and former, are nobody's misspelling.

    >>> from homeostat.declare.schema import Event
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"card": str, "amount": float | None}})
    >>> misspellings(Tap.schema, ["card", "Amount"]), misspellings(Tap.schema, ["card", "amounts"])
    ({'amount': 'Amount'}, {})
    """
    said = set(names)
    others = sorted(said - _known(schema))
    found: dict[str, str] = {}
    for field in schema.fields if others else ():
        if field.is_optional and said.isdisjoint((field.name, *field.aliases)):
            for name in others:
                if _is_like(name, field.name):
                    found.setdefault(field.name, name)
    return found


def may_misspell(schema: EventSchema, names: Iterable[str]) -> list[str]:
    """Return the names that would be misspellings where nothing fills the field they are like.

    >>> from homeostat.declare.schema import Event
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"card": str, "amount": float | None}})
    >>> may_misspell(Tap.schema, ["card", "amount", "Amount", "zip"])
    ['Amount']
    """
    others = sorted(set(names) - _known(schema))
    optional = [field.name for field in schema.fields if field.is_optional]
    return [name for name in others if any(_is_like(name, own) for own in optional)]


def unfilled(schema: EventSchema, columns: Sequence[str]) -> dict[str, str | None]:
    """Return the fields that no column fills, with the unused column whose name is nearest."""
    known = _known(schema)
    unused = [column for column in columns if column not in known]
    return {
        f.name: nearest(f.name, unused)
        for f in schema.fields
        if not any(name in columns for name in (f.name, *f.aliases))
    }


def nearest(name: str, others: Sequence[str]) -> str | None:
    """Return the name that looks most like another one, None if none does."""
    by_fold: Mapping[str, str] = {folded(other): other for other in reversed(others)}
    near = get_close_matches(folded(name), by_fold, n=1)
    return by_fold[near[0]] if near else None


def _known(schema: EventSchema) -> set[str]:
    return {name for field in schema.fields for name in (field.name, *field.aliases)}


def _is_like(name: str, own: str) -> bool:
    one, other = folded(name), folded(own)
    return one == other or _swapped(one, other)


def _swapped(one: str, other: str) -> bool:
    """Return whether two texts differ by two neighbours that changed places."""
    if len(one) != len(other):
        return False
    places = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    return (
        len(places) == 2
        and places[1] == places[0] + 1
        and one[places[0]] == other[places[1]]
        and one[places[1]] == other[places[0]]
    )
