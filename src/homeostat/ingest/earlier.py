"""An event that came before under an earlier schema of its source is the same event."""

from __future__ import annotations

from homeostat.declare.schema import EventSchema
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.event_columns import ColumnDecoder
from homeostat.ingest.payloads import Payloads

__all__ = ["EarlierReading"]


class EarlierReading:
    """Reads payloads as a source did before its schema became the present one.

    Args:
        schema: the earlier schema.
        present: the decoder of the present one.
    """

    def __init__(self, schema: EventSchema, present: ColumnDecoder) -> None:
        self._columns, self._rows = ColumnDecoder(schema), PayloadDecoder(schema)
        self._present = present

    def is_same(self, payload: Payloads, remembered: int, content: int) -> bool:
        """Return whether the earlier schema reads the event of which the content is remembered.

        An earlier schema does not see what came later: what it reads must be all there is, so what
        it read, written down, has the present `content` under the present schema.
        """
        found = self._columns.decode(payload)
        if not found.valid[0] or int(self._columns.contents(found)[0]) != remembered:
            return False
        written = self._rows.canonical(self._rows.decode(list(payload)).rows)
        again = self._present.decode(Payloads.of(written))
        return bool(again.valid[0]) and int(self._present.contents(again)[0]) == content
