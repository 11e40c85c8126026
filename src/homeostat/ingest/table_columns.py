"""The columns of a table against the fields of an event: taken, said, or the table is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeostat.core.errors import HomeostatError, did_you_mean
from homeostat.declare.schema import EventSchema
from homeostat.ingest.field_names import misspellings, stripped, unfilled

__all__ = ["ColumnsInvalid", "TableColumns", "columns_of"]


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
