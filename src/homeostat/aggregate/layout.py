"""The layout of a view's states: lanes, signals, windows and how each feature reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from homeostat.aggregate.catalogue import summary_of
from homeostat.aggregate.exact import LIMBS, SQUARES, WHOLE_SQUARES
from homeostat.aggregate.operations import OPERATIONS, SUMMARIZED, Lane, LaneKind, Operation
from homeostat.aggregate.summaries import Summary
from homeostat.core.durations import Micros
from homeostat.declare.aggregations import FeatureSpec
from homeostat.declare.expressions import Expression
from homeostat.declare.views import FeatureView

__all__ = ["Gather", "Input", "Layout", "Read", "Source", "State", "summed_columns"]


@dataclass(frozen=True, slots=True)
class Input:
    """What an aggregation looks at: a column (None: the event itself) under a condition.

    Of a coded input the codes of the values are kept, not the values.
    """

    column: str | None
    where: Expression | None
    coded: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What of an input is looked at: its values, whether it has one, or whether that is known."""

    kind: Literal["value", "present", "known"]
    input: Input


@dataclass(frozen=True, slots=True)
class State:
    """One reversible state of the view; features that need the same one share it."""

    kind: LaneKind
    input: Input


@dataclass(frozen=True, slots=True)
class Read:
    """How one feature is read: from the lanes, or from the event selected among a signal's.

    A trend also reads the window `longer`, twice as long, and compares by "difference" or "ratio".
    """

    name: str
    window: int
    operation: Operation
    lanes: tuple[Lane, ...] = ()
    signal: int = -1
    longer: int = -1
    trend: str = ""


@dataclass(frozen=True, slots=True)
class Gather:
    """A summary read over one window: `parts[i]` of its features is the view's `columns[i]`."""

    window: int
    summary: Summary
    signal: int
    columns: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)


Look = LaneKind | Literal["signal"]
"""What looks at an input: a lane, or a signal."""


@dataclass(slots=True)
class Layout:
    """The states of one view, each kept once.

    `lanes` maps a state to its positions among the `width` int64 lanes; `signals` are the inputs
    whose values are kept as they are; `windows` are the different (window, hop) pairs; `reads` has
    one entry per feature, in the order of the view; `gathers` are the summaries, each once per
    window. `heavy` are the lanes whose magnitudes are watched: the top limb of every sum;
    `weighed` are the columns read from sums, with their reads and which of `heavy` these are.
    `sources` are what all of these are made of: `lane_sources[i]` is the place of what the i-th
    state looks at, None where every event counts alike; `signal_sources` are those of the signals.

    `plain` names columns with a value in every event: the first and last of them are read as row
    numbers, and looked up by whoever asked for that.
    """

    view: FeatureView
    plain: frozenset[str] = frozenset()
    lanes: dict[State, Lane] = field(default_factory=dict)
    signals: list[Input] = field(default_factory=list)
    windows: list[tuple[Micros | None, Micros]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    gathers: list[Gather] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    lane_sources: list[int | None] = field(default_factory=list)
    signal_sources: list[int | None] = field(default_factory=list)
    width: int = 0

    def __post_init__(self) -> None:
        for spec in self.view.features():
            self.reads.append(self._read(spec))
        looks: list[tuple[Look, Input]] = [(state.kind, state.input) for state in self.lanes]
        looks += [("signal", needed) for needed in self.signals]
        wanted = list(dict.fromkeys(_source(*look) for look in looks))
        # Where values are at hand, who only counts them needs nothing else.
        self.sources = [
            source
            for source in wanted
            if source is not None
            and (source.kind != "present" or Source("value", source.input) not in wanted)
        ]
        places = [self._place(look, needed) for look, needed in looks]
        self.lane_sources, self.signal_sources = (
            places[: len(self.lanes)],
            places[len(self.lanes) :],
        )

    def _place(self, look: Look, needed: Input) -> int | None:
        source = _source(look, needed)
        if source is not None and source not in self.sources:
            source = Source("value", needed)
        return None if source is None else self.sources.index(source)

    @property
    def columns(self) -> list[str]:
        """The names of the event fields that the states are made of, sorted."""
        found: set[str] = set()
        for source in self.sources:
            if source.input.column is not None:
                found.add(source.input.column)
            if source.input.where is not None:
                found |= source.input.where.columns()
        return sorted(found)

    @property
    def ordered(self) -> bool:
        """Whether some feature depends on the order of events at the same instant."""
        return bool(self.gathers) or any(
            r.operation.select in ("earliest", "latest") and not r.operation.of_time
            for r in self.reads
        )

    @property
    def heavy(self) -> tuple[int, ...]:
        """The positions of the top limbs of all sums."""
        return tuple(at[0] for state, at in self.lanes.items() if state.kind == "sum")

    @property
    def weighed(self) -> tuple[tuple[int, Read, int], ...]:
        """The columns that are read from sums, how, and the place of the sum among `heavy`."""
        place = {lane: number for number, lane in enumerate(self.heavy)}
        return tuple(
            (column, read, place[read.lanes[1][0]])
            for column, read in enumerate(self.reads)
            if "sum" in read.operation.lanes
        )

    def _read(self, spec: FeatureSpec) -> Read:
        window = self._window(spec, 1)
        summary = summary_of(spec)
        if summary is not None:
            needed = Input(spec.column, spec.where, summary.reads == "code")
            signal = self._signal(needed)
            self._gather(Gather(window, summary, signal), spec.part)
            return Read(spec.name, window, SUMMARIZED, signal=signal)
        operation = OPERATIONS[spec.operation]
        if operation.select is not None:
            needed = Input(spec.column, spec.where)
            if (
                operation.select in ("earliest", "latest")
                and not operation.of_time
                and spec.where is None
                and spec.column in self.plain
            ):
                operation, needed = replace(operation, of_row=True), Input(None, None)
            return Read(spec.name, window, operation, signal=self._signal(needed))
        lanes = tuple(self._lane(kind, spec) for kind in operation.lanes)
        trend = spec.option.get("trend")
        if trend is None:
            return Read(spec.name, window, operation, lanes)
        longer = self._window(spec, 2)
        return Read(spec.name, window, operation, lanes, longer=longer, trend=str(trend))

    def _window(self, spec: FeatureSpec, times: int) -> int:
        # An exact window has hop 0; the whole history has no boundary to round.
        span = (None, 0) if spec.window is None else (times * spec.window, spec.hop)
        if span not in self.windows:
            self.windows.append(span)
        return self.windows.index(span)

    def _signal(self, needed: Input) -> int:
        if needed not in self.signals:
            self.signals.append(needed)
        return self.signals.index(needed)

    def _gather(self, wanted: Gather, part: int) -> None:
        same = (g for g in self.gathers if _asked(g) == _asked(wanted))
        found = next(same, None)
        if found is None:
            self.gathers.append(found := wanted)
        found.columns.append(len(self.reads))
        found.parts.append(part)

    def _lane(self, kind: LaneKind, spec: FeatureSpec) -> Lane:
        column = spec.column
        if kind == "known" or (kind == "count" and column and not self._nullable(column)):
            column = None
        state = State(kind, Input(column, spec.where))
        if state not in self.lanes:
            limbs, digits = (LIMBS, SQUARES) if self._is_float(column) else (1, WHOLE_SQUARES)
            width = limbs if kind == "sum" else digits if kind == "square" else 1
            self.lanes[state] = tuple(range(self.width, self.width + width))
            self.width += width
        return self.lanes[state]

    def _nullable(self, column: str) -> bool:
        return self.view.source.schema.field(column, self.view.name).nullable

    def _is_float(self, column: str | None) -> bool:
        schema = self.view.source.schema
        return column is not None and schema.field(column, self.view.name).kind == "float"


def _asked(gather: Gather) -> tuple[int, Summary, int]:
    return gather.window, gather.summary, gather.signal


def _source(look: Look, needed: Input) -> Source | None:
    """Return what a state or signal looks at; None: every event counts alike."""
    if needed.column is None and needed.where is None:
        return None
    if look == "known":
        return Source("known", needed)
    return Source("present" if look == "count" or needed.column is None else "value", needed)


def summed_columns(views: Iterable[FeatureView]) -> set[str]:
    """Return the columns whose values some feature of the views adds up."""
    return {
        spec.column
        for view in views
        for spec in view.features()
        if spec.column is not None
        and (spec.operation == "decayed_sum" or "sum" in _lanes(spec.operation))
    }


def _lanes(operation: str) -> tuple[LaneKind, ...]:
    return OPERATIONS[operation].lanes if operation in OPERATIONS else ()
