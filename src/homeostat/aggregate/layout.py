"""The layout of a view's states: lanes, signals, windows and how each feature reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from homeostat.aggregate.catalogue import summary_of
from homeostat.aggregate.exact import LIMBS
from homeostat.aggregate.operations import OPERATIONS, SUMMARIZED, Lane, LaneKind, Operation
from homeostat.aggregate.summaries import Summary
from homeostat.core.durations import Micros
from homeostat.declare.aggregations import FeatureSpec
from homeostat.declare.expressions import Expression
from homeostat.declare.views import FeatureView

__all__ = ["Gather", "Input", "Layout", "Read", "State"]


@dataclass(frozen=True, slots=True)
class Input:
    """What an aggregation looks at: a column (None: the event itself) under a condition.

    Of a coded input the codes of the values are kept, not the values.
    """

    column: str | None
    where: Expression | None
    coded: bool = False


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


@dataclass(slots=True)
class Layout:
    """The states of one view, each kept once.

    `lanes` maps a state to its positions among the `width` int64 lanes; `signals` are the inputs
    whose values are kept as they are; `windows` are the different (window, hop) pairs; `reads` has
    one entry per feature, in the order of the view; `gathers` are the summaries, each once per
    window. `heavy` are the lanes whose magnitudes are watched: the top limb of every sum.
    """

    view: FeatureView
    lanes: dict[State, Lane] = field(default_factory=dict)
    signals: list[Input] = field(default_factory=list)
    windows: list[tuple[Micros | None, Micros]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    gathers: list[Gather] = field(default_factory=list)
    width: int = 0

    def __post_init__(self) -> None:
        for spec in self.view.features():
            self.reads.append(self._read(spec))

    @property
    def heavy(self) -> tuple[int, ...]:
        """The positions of the top limbs of all sums."""
        return tuple(at[0] for state, at in self.lanes.items() if state.kind in ("sum", "square"))

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
            signal = self._signal(Input(spec.column, spec.where))
            return Read(spec.name, window, operation, signal=signal)
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
            width = LIMBS if kind == "square" or (kind == "sum" and self._is_float(column)) else 1
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
