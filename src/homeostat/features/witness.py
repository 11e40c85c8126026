"""What the log says about the events behind some predictions: the lake, with things put right.

Each trial is the lake with one thing put right. A cause that gives the logged bits for everything
that differs in a prediction is more credible than one that does so for some of it: counts meet by
chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import polars as pl

from homeostat.aggregate.arrays import Ints
from homeostat.core.durations import Micros
from homeostat.declare.views import FeatureRef, FeatureView
from homeostat.features.causes import Cause, Tell, saying
from homeostat.features.definitions import views_behind
from homeostat.features.event_changes import EventChanges
from homeostat.features.evidence import Evidence
from homeostat.features.log import event_columns
from homeostat.features.logged import EventsOf, LoggedFeatures

__all__ = ["Trial", "Witness"]

World = Mapping[str, pl.DataFrame]
"""Events by source, in place of the lake's; empty if there is nothing to replace."""

NAMED = 3
"""At most this many events are named."""

SINGLE = 32
"""At most this many events beyond the allowance are tried one by one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The lake with one thing put right, and its cause if that gives the logged values.

    It may be tried on the predictions in `rows` (None: on all).
    """

    cause: Cause
    world: World
    tell: Tell
    rows: list[int] | None = None


KINDS: Mapping[str, str] = {
    "erased": "in the log and not in the lake",
    "altered": "not what the log holds",
    "foreign": "in the lake and not in the log",
    "remarked": "counted in only one of lake and log, by its lateness",
}


class Witness:
    """The events that some predictions may be made of, in the lake and decoded from the log again.

    `lake` are the lake's events by source, `unread` the sources whose log cannot be read.

    Args:
        logged: the predictions.
        rows: those in question.
        events_of: returns the lake's events of a source.
        evidence: decodes the log.
    """

    def __init__(
        self, logged: LoggedFeatures, rows: Ints, events_of: EventsOf, evidence: Evidence
    ) -> None:
        self._logged, self._spine = logged, logged.spine[rows]
        self._views: dict[str, list[FeatureView]] = {}
        for view in logged.system.views_of(logged.model):
            self._views.setdefault(view.source.name, []).append(view)
        self.lake: dict[str, pl.DataFrame] = {}
        self.unread: list[str] = []
        self._changes: dict[str, EventChanges] = {}
        for source, views in self._views.items():
            columns = sorted({c for view in views for c in event_columns(view, at_offsets=True)})
            first, until = self._first(views), int(logged.offsets(source)[rows].max())
            within = (pl.col("_offset") <= until) & _known_since(first)
            self.lake[source] = events_of(source).select(columns).filter(within)
            decoded = evidence.events(source, first, until)
            if decoded is None:
                self.unread.append(source)
            else:
                kept = decoded.frame.select(columns).filter(within)
                found = EventChanges.of(self.lake[source], kept, decoded.unread)
                self._changes[source] = found

    def _first(self, views: list[FeatureView]) -> Micros | None:
        """Return the earliest instant that the predictions look back to, None for all time."""
        if any(spec.window is None for view in views for spec in view.features()):
            return None
        earliest = int(self._spine["at"].dt.epoch("us").to_numpy().min())
        return earliest - max(view.longest_window for view in views)

    @property
    def disagrees(self) -> bool:
        """Whether lake and log hold different events."""
        return bool(self._sources(*KINDS))

    @property
    def gone(self) -> dict[str, frozenset[int]]:
        """Offsets by source that neither lake nor log can tell of, though they were no refusals."""
        return {source: found.gone for source, found in self._changes.items() if found.gone}

    def trials(self) -> Iterator[Trial]:
        """Yield the trials, the most specific first."""
        yield from self._undone()
        yield from self._by_the_lateness_of_then()
        every = {
            source: events.with_columns(_too_late=pl.lit(False))
            for source, events in self.lake.items()
            if events["_too_late"].any()
        }
        if every:
            told = "with the events counted that are beyond the lateness, it is the logged value"
            yield Trial("late_event", every, saying(told))
        yield from self._counted_singly()

    def _undone(self) -> Iterator[Trial]:
        """Yield the lake with one kind of change undone after the other, then with all undone."""
        erased, altered = self._sources("erased"), self._sources("altered", "foreign")
        marked = self._sources("remarked")
        if erased:
            world = {s: self._changes[s].with_erased() for s in erased}
            yield Trial("event_erased", world, partial(self._touched, ("erased",)))
        if altered:
            world = {s: self._changes[s].with_altered() for s in altered}
            yield Trial("event_altered", world, partial(self._touched, ("altered", "foreign")))
        if marked:
            world = {s: self._changes[s].with_marks() for s in marked}
            yield Trial("late_event", world, partial(self._touched, ("remarked",)))
        if bool(erased) + bool(altered) + bool(marked) > 1:
            cause: Cause = "event_altered" if altered else "event_erased"
            yield Trial(cause, self.as_logged(), partial(self._touched, tuple(KINDS)))

    def _by_the_lateness_of_then(self) -> Iterator[Trial]:
        views = self._logged.system.views_of(self._logged.model)
        now = {view.source.name: view.source.lateness_us for view in views}
        late = pl.col("_known_time") - pl.col("_event_time")
        for known, rows in self._logged.made_under():
            if known is None:
                continue
            changed = {s: t for s, t in known.lateness.items() if now.get(s, t) != t}
            world = {
                source: self.lake[source].with_columns(_too_late=late > timedelta(microseconds=t))
                for source, t in changed.items()
            }
            spans = (f"{s!r} {t / 1e6:g} s -> {now[s] / 1e6:g} s" for s, t in changed.items())
            told = f"by the lateness of then it is the logged value: {', '.join(spans)}"
            if world:
                yield Trial("late_event", world, saying(told), rows)

    def _counted_singly(self) -> Iterator[Trial]:
        """Yield the lake with one of the entities' late events counted."""
        for source, events in self.lake.items():
            late = events.filter("_too_late")
            asked = [
                late.join(self._spine.select(view.entity.keys), on=view.entity.keys, how="semi")
                for view in self._views[source]
            ]
            offsets = sorted({int(o) for found in asked for o in found["_offset"]}, reverse=True)
            for offset in offsets[:SINGLE]:
                counted = pl.col("_too_late") & (pl.col("_offset") != offset)
                told = f"with offset {offset} of {source!r} counted, which is too late, it is"
                yield Trial(
                    "late_event",
                    {source: events.with_columns(_too_late=counted)},
                    saying(f"{told} the logged value"),
                )

    def as_logged(self) -> World:
        """Return the events as the log has them, for the sources where the lake's are others."""
        return {source: self._changes[source].as_logged() for source in self._sources(*KINDS)}

    def _touched(self, kinds: tuple[str, ...], row: int, column: int) -> str:
        """Name the changes of some kinds among the events that one value is made of."""
        told: list[str] = []
        for ref in views_behind(self._logged.model.features[column]):
            view = self._logged.system.view(ref.view)
            changes = self._changes[view.source.name]
            seen = self._seen(ref, view, row)
            rows = pl.concat([changes.lake, changes.log]).filter(seen)
            inside = set(rows["_offset"].to_list())
            for kind in kinds:
                for offset in sorted(getattr(changes, kind) & inside):
                    fields = ", ".join(changes.fields.get(offset, ()))
                    said = f"offset {offset} of {view.source.name!r} is {KINDS[kind]}"
                    told.append(f"{said} ({fields})" if fields and kind == "altered" else said)
        told = list(dict.fromkeys(told))
        more = f"; and {len(told) - NAMED} more" if len(told) > NAMED else ""
        return f"{'; '.join(told[:NAMED])}{more}; with that undone it is the logged value"

    def _seen(self, ref: FeatureRef, view: FeatureView, row: int) -> pl.Expr:
        """Return which events of a view one prediction could see, in a feature's window."""
        spine = self._logged.spine
        seen = pl.col("_offset") <= int(self._logged.offsets(view.source.name)[row])
        for key in view.entity.keys:
            seen &= pl.col(key) == spine[key][row]
        spec = next(spec for spec in view.features() if spec.name == ref.feature)
        if spec.window is not None:
            begin = spine["at"][row] - timedelta(microseconds=spec.reach)
            seen &= pl.col("_event_time") >= begin
        return seen

    def _sources(self, *kinds: str) -> list[str]:
        """Return the sources in which something of these kinds has changed."""
        return [s for s, found in self._changes.items() if any(getattr(found, k) for k in kinds)]


def _known_since(first: Micros | None) -> pl.Expr:
    if first is None:
        return pl.lit(True)
    return pl.col("_known_time") >= pl.lit(first, pl.Int64).cast(pl.Datetime("us", "UTC"))
