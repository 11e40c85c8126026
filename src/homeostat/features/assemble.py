"""The model's input: view features, request fields and on-demand features in one matrix.

The same code runs for a training set of a million rows, for one request, and for the audit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.clock import to_micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureRef, OnDemand
from homeostat.features.alone import require_alone

__all__ = ["FeaturePlan", "FeatureShapeInvalid", "Features", "as_floats"]


class FeatureShapeInvalid(HomeostatError, ValueError):
    """An on-demand function returned something else than one number per row."""

    def __init__(self, name: str, got: tuple[int, ...], rows: int) -> None:
        super().__init__(
            f"on-demand feature {name!r}: returned shape {got} for {rows} rows; allowed: one "
            "number per row; compute element by element, with NumPy functions"
        )


class ComplexRefused(HomeostatError, TypeError):
    """An on-demand function returned complex numbers."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"on-demand feature {name!r}: returned complex numbers; allowed: one real number per "
            "row; take the real part, or the magnitude"
        )


class FunctionLeft(HomeostatError):
    """An on-demand function raised what is no `Exception`, such as an exit."""

    def __init__(self, name: str, left: BaseException) -> None:
        super().__init__(
            f"on-demand feature {name!r}: raised {type(left).__name__}; allowed: one number per "
            "row, or an error; raise a ValueError where a value cannot be computed"
        )


@dataclass(frozen=True, slots=True)
class Features:
    """The model's input: `matrix` float64 of shape (n, names), NaN where a value is missing and
    in the columns of text; `categories` the text columns by name, None where missing."""

    matrix: Floats
    categories: dict[str, list[str | None]]


_NOTHING = np.empty(0)


@dataclass(frozen=True, slots=True)
class _Copied:
    """Columns of one view that go into the matrix as they are."""

    view: str
    taken: Ints
    places: Ints


@dataclass(frozen=True, slots=True)
class _Computed:
    """An on-demand feature: the slots of its inputs, and its own."""

    feature: OnDemand
    inputs: tuple[int, ...]
    slot: int


class FeaturePlan:
    """How one model's features are put together, worked out once.

    `names` are the columns in the model's order, `numeric` the positions of the numbers among
    them, `categorical` the names of the text columns, `views` the views that are read, `fields`
    the request fields that are needed.
    """

    def __init__(self, system: System, model: Model) -> None:
        where = f"model {model.name!r}"
        self.names = model.feature_names()
        self.views = system.views_of(model)
        schema = model.label.predicts.schema
        self.fields = tuple(need for need in model_inputs(model) if isinstance(need, str))
        texts = {name for name in self.fields if schema.field(name, where).kind == "string"}
        self.categorical = tuple(f for f in model.features if isinstance(f, str) and f in texts)
        self.numeric = tuple(n for n, f in enumerate(self.names) if f not in texts)
        self._where_in = {
            FeatureRef(view.name, spec.name): (view.name, column)
            for view in self.views
            for column, spec in enumerate(view.features())
        }
        self._slots: dict[FeatureRef | OnDemand | str, int] = {}
        self._given: list[tuple[str, int]] = []
        self._viewed: list[tuple[str, int, int]] = []
        self._computed: list[_Computed] = []
        self._placed: list[tuple[int, int]] = []
        copied: dict[str, list[tuple[int, int]]] = {}
        for place, feature in enumerate(model.features):
            if isinstance(feature, FeatureRef):
                view, column = self._where_in[feature]
                copied.setdefault(view, []).append((column, place))
            elif feature not in texts:
                self._placed.append((self._slot(feature), place))
        self._copied = [
            _Copied(view, *(np.array(part) for part in zip(*pairs, strict=True)))
            for view, pairs in copied.items()
        ]

    def _slot(self, feature: FeatureRef | OnDemand | str) -> int:
        """Return the number of the array that will hold `feature`, in the order of computation."""
        known = self._slots.get(feature)
        if known is not None:
            return known
        inputs: tuple[int, ...] = ()
        if isinstance(feature, OnDemand):
            inputs = tuple(self._slot(given) for given in feature.inputs)
        slot = self._slots[feature] = len(self._slots)
        if isinstance(feature, str):
            self._given.append((feature, slot))
        elif isinstance(feature, FeatureRef):
            self._viewed.append((*self._where_in[feature], slot))
        else:
            self._computed.append(_Computed(feature, inputs, slot))
        return slot

    def assemble(
        self,
        request: Mapping[str, Sequence[Any] | pl.Series],
        views: Mapping[str, Floats],
        *,
        alone: bool = False,
    ) -> Features:
        """Return the model's input from request columns and view matrices (n, view features).

        `alone`: raise `BatchDependent` where an on-demand function mixes rows.
        """
        rows = _rows(request, views)
        matrix = np.full((rows, len(self.names)), np.nan)
        for copied in self._copied:
            matrix[:, copied.places] = views[copied.view][:, copied.taken]
        slots = [_NOTHING] * len(self._slots)
        for field, slot in self._given:
            slots[slot] = as_floats(request[field])
        for view, column, slot in self._viewed:
            slots[slot] = views[view][:, column].copy()
        with np.errstate(all="ignore"):  # a division by zero in a feature is a missing value
            for step in self._computed:
                inputs = [slots[given] for given in step.inputs]
                slots[step.slot] = _computed(step, inputs, rows)
                if alone:
                    require_alone(step.feature, inputs, slots[step.slot])
        for slot, place in self._placed:
            matrix[:, place] = slots[slot]
        matrix[np.isnan(matrix)] = np.nan  # one bit pattern for missing
        return Features(matrix, {name: _texts(request[name]) for name in self.categorical})


def _computed(step: _Computed, inputs: list[Floats], rows: int) -> Floats:
    # Contiguous copies: a function may change its inputs, and NumPy may round the elements of a
    # strided array differently.
    try:
        given = np.asarray(step.feature.function(*(i.copy() for i in inputs)))
        if np.iscomplexobj(given):
            raise ComplexRefused(step.feature.name)
        found = np.asarray(given, dtype=np.float64)
    except Exception:
        raise
    except BaseException as left:
        if isinstance(left, KeyboardInterrupt) and current_thread() is main_thread():
            raise  # Ctrl-C reaches the main thread alone
        raise FunctionLeft(step.feature.name, left) from left
    if found.shape != (rows,):
        raise FeatureShapeInvalid(step.feature.name, found.shape, rows)
    return found


def as_floats(values: Sequence[Any] | pl.Series) -> Floats:
    """Return request values as float64: booleans are 0 and 1, instants seconds since 1970.

    >>> as_floats([True, None, 2]).tolist()
    [1.0, nan, 2.0]
    """
    if isinstance(values, pl.Series):
        if values.dtype == pl.Datetime:
            micros = values.cast(pl.Datetime("us", "UTC")).dt.epoch("us").cast(pl.Float64)
            return (micros / 1e6).fill_null(np.nan).to_numpy().copy()
        return values.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    if value is None:
        return np.nan
    if isinstance(value, datetime):
        return to_micros(value) / 1e6
    return float(value)


def _texts(values: Sequence[Any] | pl.Series) -> list[str | None]:
    return values.to_list() if isinstance(values, pl.Series) else list(values)


def _rows(request: Mapping[str, Sequence[Any] | pl.Series], views: Mapping[str, Floats]) -> int:
    sizes = {len(column) for column in request.values()} | {len(m) for m in views.values()}
    if len(sizes) != 1:
        raise HomeostatError(
            f"features: columns of {sorted(sizes)} rows; allowed: one number of rows in the "
            "request and in every view; give one row per request"
        )
    return sizes.pop()
