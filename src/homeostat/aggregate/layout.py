"""The layout of a view's states: lanes, signals, windows and how each feature reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from homeostat.aggregate.exact import LIMBS
from homeostat.aggregate.operations import OPERATIONS, Lane, LaneKind, Operation
from homeostat.core.durations import Micros
from homeostat.declare.aggregations import FeatureSpec
from homeostat.declare.expressions import Expression
from homeostat.declare.views import FeatureView

__all__ = ["Input", "Layout", "Read", "State"]


@dataclass(frozen=True, slots=True)
class Input:
    """What an aggregation looks at: a column (None: the event itself) under a condition."""

    column: str | None
    where: Expression | None


@dataclass(frozen=True, slots=True)
class State:
    """One reversible state of the view; features that need the same one share it."""

    kind: LaneKind
    input: Input


@dataclass(frozen=True, slots=True)
class Read:
    """How one feature is read: from the lanes, or from the event selected among a signal's."""

    name: str
    window: int
    operation: Operation
    lanes: tuple[Lane, ...] = ()
    signal: int = -1


@dataclass(slots=True)
class Layout:
    """The states of one view, each kept once.

    `lanes` maps a state to its positions among the `width` int64 lanes; `signals` are the inputs
    whose values are kept as they are; `windows` are the different (window, hop) pairs; `reads` has
    one entry per feature, in the order of the view. `heavy` are the lanes whose magnitudes are
    watched: the top limb of every sum.
    """

    view: FeatureView
    lanes: dict[State, Lane] = field(default_factory=dict)
    signals: list[Input] = field(default_factory=list)
    windows: list[tuple[Micros | None, Micros]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    width: int = 0

    def __post_init__(self) -> None:
        self.reads = [self._read(spec) for spec in self.view.features()]

    @property
    def heavy(self) -> tuple[int, ...]:
        """The positions of the top limbs of all sums."""
        return tuple(at[0] for state, at in self.lanes.items() if state.kind in ("sum", "square"))

    def _read(self, spec: FeatureSpec) -> Read:
        operation = OPERATIONS[spec.operation]
        # An exact window has hop 0; the whole history has no boundary to round.
        span = (spec.window, spec.hop if spec.window is not None else 0)
        if span not in self.windows:
            self.windows.append(span)
        window = self.windows.index(span)
        if operation.select is None:
            lanes = tuple(self._lane(kind, spec) for kind in operation.lanes)
            return Read(spec.name, window, operation, lanes)
        needed = Input(spec.column, spec.where)
        if needed not in self.signals:
            self.signals.append(needed)
        return Read(spec.name, window, operation, signal=self.signals.index(needed))

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
