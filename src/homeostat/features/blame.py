"""Why logged features are not what the lake gives: each difference is blamed on one cause.

A cause is tried only where all before it have failed, strongest evidence first:

1. definition_changed, code_changed: the prediction carries the digest of the definitions it was
   made under, and this feature's meaning or code is another today. What the old ones would have
   given cannot be computed any more, so whether events were touched as well is not seen.
2. event_erased, event_altered, late_event: the lake is computed with again, with one thing put
   right by what the log holds (missing rows, changed rows, marks of lateness), or with events
   counted that are beyond the allowance, or by the allowance of then. A cause is named only if that
   gives the logged bits, first of everything that differs in a prediction, else of a part. So it
   is sufficient; that nothing else happened is not shown, and small counts may meet by chance.
   Somebody who changes log and lake alike leaves no trace, except that the log has checksums.
3. code_changed: none of it explains the value, and homeostat or a library is of another version.
4. event_erased: a record is gone from log and lake, and no dead letter says that it was refused.
   Its value is gone too, so this is where the difference can come from, not where it must.
5. store_fault: by elimination. Log and lake agree about the entity, definitions, code and versions
   are those of then, nothing speaks against the model having been given the logged value (the
   lake's copy of the prediction, and the score again), and that value comes from the live store.
   How the store stands now is said, and proves nothing about then.
6. unexplained: some of that is not known, or speaks against a fault of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.declare.views import FeatureRef
from homeostat.features.causes import CAUSES, Cause, Tell, saying
from homeostat.features.definitions import Definition, Definitions, views_behind
from homeostat.features.evidence import Evidence
from homeostat.features.logged import EventsOf, LoggedFeatures, differ
from homeostat.features.witness import Trial, Witness

__all__ = ["Blame"]


class Blame:
    """Finds the causes of the differences between logged and recomputed features.

    Args:
        logged: the predictions with their features.
        again: the features from the lake, float64 of the shape of the logged ones.
        events_of: returns the lake's events of a source.
        evidence: what else may be asked.
    """

    def __init__(
        self, logged: LoggedFeatures, again: Floats, events_of: EventsOf, evidence: Evidence
    ) -> None:
        self._logged, self._again, self._evidence = logged, again, evidence
        self._events_of = events_of
        self._now = Definitions.of(logged.system, logged.model)
        self._behind = [views_behind(feature) for feature in logged.model.features]
        self._open: Bools = np.zeros(again.shape, np.bool_)
        self._verdicts: list[tuple[Cause, Tell]] = []
        self._verdict = np.full(again.shape, -1, np.int64)

    def causes(self, unlike: Bools) -> dict[Cause, Ints]:
        """Return by cause the places (row, column) of the differences, in their order."""
        self._open = unlike.copy()
        self._by_definition()
        if self._open.any():
            self._by_events()
        if self._open.any():
            self._by_elimination()
        found: dict[Cause, Ints] = {}
        for cause in CAUSES:
            mine = [number for number, (told, _) in enumerate(self._verdicts) if told == cause]
            if mine:
                found[cause] = np.argwhere(np.isin(self._verdict, mine))
        return found

    def evidence(self, row: int, column: int) -> str:
        """Return what proves the cause of one difference."""
        _, tell = self._verdicts[int(self._verdict[row, column])]
        return tell(row, column)

    def _settle(self, where: Bools, cause: Cause, tell: Tell) -> None:
        """Blame the differences that are still open there."""
        settled = where & self._open
        if settled.any():
            self._open &= ~settled
            self._verdict[settled] = len(self._verdicts)
            self._verdicts.append((cause, tell))

    def _by_definition(self) -> None:
        for known, rows in self._logged.made_under():
            if known is None:
                continue
            for column, name in enumerate(self._logged.names):
                then, now = known.features.get(name), self._now.features[name]
                where = self._at(rows, column)
                if then is None:  # so it was not logged, and is not compared
                    continue
                if then.meaning != now.meaning:
                    self._settle(where, "definition_changed", _other_definition(then, now))
                elif then.code != now.code:
                    self._settle(where, "code_changed", _other_code(then, now))

    def _at(self, rows: list[int], column: int) -> Bools:
        where: Bools = np.zeros(self._again.shape, np.bool_)
        where[rows, column] = True
        return where

    def _by_events(self) -> None:
        """Try what explains everything that differs in a prediction, then what explains a part."""
        for whole in (True, False):
            for trial in self._witness.trials():
                if self._open.any():
                    self._try(trial, whole)

    def _try(self, trial: Trial, whole: bool) -> None:
        """Blame a cause for the differences that are gone when the lake holds other events."""
        same = ~differ(self._computed(trial.world), self._logged.values)
        if trial.rows is not None:
            same &= np.isin(np.arange(len(same)), trial.rows)[:, None]
        if whole:
            left: Bools = np.any(self._open & ~same, axis=1, keepdims=True)
            same &= ~left
        self._settle(same, trial.cause, trial.tell)

    def _computed(self, world: Mapping[str, pl.DataFrame]) -> Floats:
        """Return the features with some sources' events replaced; the lake's where none is open."""
        rows = np.flatnonzero(self._open.any(axis=1))
        found = self._again.copy()
        found[rows] = self._logged.again(lambda s: world.get(s, self._witness.lake[s]), rows)
        return found

    @cached_property
    def _witness(self) -> Witness:
        rows = np.flatnonzero(self._open.any(axis=1))
        return Witness(self._logged, rows, self._events_of, self._evidence)

    def _by_elimination(self) -> None:
        logged, witness = self._logged, self._witness
        for known, rows in self._logged.made_under():
            here: Bools = np.zeros(self._open.shape, np.bool_)
            here[rows] = True
            if known is None:
                self._settle(here, "unexplained", saying("it does not carry its definitions"))
            elif known.libraries != self._now.libraries:
                self._settle(here, "code_changed", _other_libraries(known, self._now))
        for source, offsets in witness.gone.items():
            reads = np.array([source in map(self._source, refs) for refs in self._behind])
            after = logged.offsets(source) >= min(offsets)
            told = f"{_numbers(offsets)} of {source!r} can be read neither in the log nor the lake"
            self._settle(after[:, None] & reads, "event_erased", saying(told))
        for column, refs in enumerate(self._behind):
            where: Bools = np.zeros(self._open.shape, np.bool_)
            where[:, column] = True
            if not refs:
                told = "it is made of request fields alone, by the same code"
                self._settle(where, "unexplained", saying(told))
            elif refs != (logged.model.features[column],):
                alike = self._inputs_alike(refs)
                told = "its logged inputs are the same bits, and its function gives another value"
                self._settle(where & alike[:, None], "unexplained", saying(told))
        if witness.unread:
            told = f"the log of {', '.join(map(repr, witness.unread))} cannot be read"
            self._settle(self._open, "unexplained", saying(told))
        if witness.disagrees:
            apart = differ(self._computed(witness.as_logged()), self._again)
            told = "log and lake disagree about its events, and neither gives the logged value"
            self._settle(apart, "unexplained", saying(told))
        self._by_what_was_given()

    def _by_what_was_given(self) -> None:
        rows = np.flatnonzero(self._open.any(axis=1))
        if not len(rows):
            return
        given = self._evidence.was_given(self._logged.rows[rows])
        where: Bools = np.zeros(self._open.shape, np.bool_)
        where[rows] = np.array([one is False for one in given])[:, None]
        told = "the prediction log does not hold what the model was given: it was changed since"
        self._settle(where, "unexplained", saying(told))
        self._settle(self._open.copy(), "store_fault", self._store_now)

    def _inputs_alike(self, refs: tuple[FeatureRef, ...]) -> Bools:
        """Return in which rows all inputs from views were logged as they are computed now."""
        names = self._logged.names
        columns = [names.index(ref.name) for ref in refs if ref.name in names]
        if len(columns) < len(refs):
            return np.zeros(len(self._again), np.bool_)
        unlike = differ(self._logged.values[:, columns], self._again[:, columns])
        return np.array([not any(row) for row in unlike.tolist()], np.bool_)

    def _source(self, ref: FeatureRef) -> str:
        return self._logged.system.view(ref.view).source.name

    def _store_now(self, row: int, column: int) -> str:
        views = {ref.view: self._logged.system.view(ref.view) for ref in self._behind[column]}
        told = "log, lake, definitions and code give another value than the live store gave"
        for name, view in views.items():
            key = tuple(self._logged.spine[part][row] for part in view.entity.keys)
            agrees = self._evidence.live_agrees(view, key)
            words = "cannot be compared now"
            if agrees is not None:
                words = "agrees with the lake now" if agrees else "disagrees with the lake still"
            told += f"; the record in {name!r} {words}"
        return told


def _other_definition(then: Definition, now: Definition) -> Tell:
    return saying(f"computed as defined by {then.meaning[:12]}, declared now is {now.meaning[:12]}")


def _other_code(then: Definition, now: Definition) -> Tell:
    before, after = (found.code[:12] or "none of the user's" for found in (then, now))
    return saying(f"computed by code {before}, declared now is {after}")


def _other_libraries(then: Definitions, now: Definitions) -> Tell:
    changed = [
        f"{name} {then.libraries.get(name, 'absent')} -> {now.libraries[name]}"
        for name in now.libraries
        if then.libraries.get(name) != now.libraries[name]
    ]
    return saying(f"log, lake and definitions do not explain it; {', '.join(changed)} since then")


def _numbers(offsets: frozenset[int]) -> str:
    listed = sorted(offsets)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"offset{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed[:3]))}{more}"
