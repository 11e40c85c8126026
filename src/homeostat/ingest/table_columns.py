"""The columns of a table against the fields of an event: taken, said, or the table is refused.

Of objects the keys of the first ones are looked at: they may lack what may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from homeostat.core.errors import HomeostatError, did_you_mean
from homeostat.declare.schema import EventSchema
from homeostat.ingest.field_names import misspellings, stripped, unfilled

__all__ = ["ColumnsInvalid", "TableColumns", "columns_of", "key_notes", "mapping_notes"]

_LOOKED_AT = 1_000
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ColumnsInvalid(HomeostatError, LookupError):
    """Columns of which it is not clear what they mean, or that lack what events must have."""

    def __init__(self, found: str, allowed: str, next_step: str) -> None:
        self.found, self.allowed, self.next_step = found, allowed, next_step
        super().__init__(f"{found}; allowed: {allowed}; {next_step}")


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which column fills which field, and what a person should know of those that none fills.

    Attributes:
        places: of each field that is filled, where its column stands.
        notes: one line for each field that is not, with the column that looks like it.
    """

    places: dict[str, int]
    notes: tuple[str, ...]


def columns_of(schema: EventSchema, columns: Sequence[str]) -> TableColumns:
    """Return which columns fill the fields; raise `ColumnsInvalid`.

    Blanks at the edges of a name are no part of it. A field may come under its name or, where no
    column has that, an earlier one. Two columns of one name, a column that is most likely a
    misspelling of a field that nothing fills, and a missing column that events must have refuse
    the table.

    >>> from homeostat.declare.schema import Event
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"card": str, "amount": float | None}})
    >>> columns_of(Tap.schema, ["zip", "card ", "amt"])
    TableColumns(places={'card': 1}, notes=("no column fills 'amount'; 'amt' is nearest",))
    """
    names = [stripped(column) for column in columns]
    found: dict[str, int] = {}
    for field in schema.fields:
        for name in (field.name, *field.aliases):
            if names.count(name) > 1:
                raise ColumnsInvalid(
                    f"two columns are named {name!r}", "one of a name", "rename or drop one of them"
                )
            if name in names and field.name not in found:
                found[field.name] = names.index(name)
    for field in schema.fields:
        if not field.is_optional and field.name not in found:
            raise ColumnsInvalid(
                f"no column {field.name!r}.{did_you_mean(field.name, columns)} "
                f"Found: {', '.join(columns)}",
                f"all of {', '.join(f.name for f in schema.fields if not f.is_optional)}",
                "rename or add the column",
            )
    for name, column in misspellings(schema, names).items():
        raise ColumnsInvalid(
            f"no column fills {name!r}, and {columns[names.index(column)]!r} is most likely it",
            "the names of fields as they are declared",
            f"rename the column to {name!r}, or to something else if it is another thing",
        )
    notes = [
        f"no column fills {name!r}" + (f"; {near!r} is nearest" if near else "")
        for name, near in unfilled(schema, names).items()
    ]
    return TableColumns(found, tuple(notes))


def key_notes(schema: EventSchema, payloads: Iterable[bytes]) -> tuple[str, ...]:
    """Return one line for each field that none of the first objects has, if a key looks like it.

    >>> from homeostat.declare.schema import Event
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"card": str, "amount": float | None}})
    >>> key_notes(Tap.schema, [b'{"card":"a","amt":1}'])
    ("none of the first 1 records has 'amount'; 'amt' is nearest",)
    >>> key_notes(Tap.schema, [b'{"card":"a","zip":1}', b"{"])
    ()
    """
    keys: set[str] = set()
    looked_at = 0
    for payload in islice(payloads, _LOOKED_AT):
        looked_at += 1
        try:
            keys.update(_KEYS.decode(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # no event: the intake says why
    return _notes_of(schema, keys, looked_at)


def mapping_notes(schema: EventSchema, elements: Sequence[object]) -> tuple[str, ...]:
    """Return the same of mappings."""
    looked_at = elements[:_LOOKED_AT]
    keys = {key for e in looked_at if isinstance(e, Mapping) for key in e if isinstance(key, str)}
    return _notes_of(schema, keys, len(looked_at))


def _notes_of(schema: EventSchema, keys: set[str], looked_at: int) -> tuple[str, ...]:
    optional = {field.name for field in schema.fields if field.is_optional}
    return tuple(
        f"none of the first {looked_at:,} records has {name!r}; {near!r} is nearest"
        for name, near in unfilled(schema, sorted(keys)).items()
        if near and name in optional
    )
