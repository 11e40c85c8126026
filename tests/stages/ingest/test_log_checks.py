"""The embedded log keeps the laws, and every check notices a log that breaks its law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homeostat.ingest.log import Advance, Instants, LogBatch, LogEnd
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.testing.laws import LawBroken
from homeostat.testing.log_checks import event_log_checks, trimmable_log_checks

NAMES = [name for name, _ in event_log_checks(lambda name: SqliteLog(Path(name)))]


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_log_keeps_the_law(name: str, tmp_path: Path) -> None:
    dict(event_log_checks(lambda log: SqliteLog(tmp_path / log)))[name]()


class CountsFromOne(SqliteLog):
    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        return super().append(source, known, payloads, steps) + 1


class KeepsKnownTimes(SqliteLog):
    """Remembers the known times as they were given."""

    given: list[int]

    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        self.given = [*getattr(self, "given", []), *known]
        return super().append(source, known, payloads, steps)

    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        found = super().read(source, after, limit, known_before)
        return replace(found, known=np.array(self.given)[found.offsets])


class ReadsOneTooMany(SqliteLog):
    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        return super().read(source, after, limit + 1, known_before)


class IncludesTheInstant(SqliteLog):
    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        later = None if known_before is None else known_before + 1
        return super().read(source, after, limit, later)


class Forgets(SqliteLog):
    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(path)


class HasOneSource(SqliteLog):
    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        return super().append("one", known, payloads, steps)

    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        return super().read("one", after, limit, known_before)

    def end(self, source: str) -> LogEnd:
        return super().end("one")


class TakesWhatItCan(SqliteLog):
    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        return super().append(source, list(known)[: len(payloads)], payloads, steps)


class LeavesThePosition(SqliteLog):
    """Appends the records before it takes the steps."""

    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        first = super().append(source, known, payloads)
        super().append(source, [], [], steps)
        return first


class StepsFromAnywhere(SqliteLog):
    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        stands = self.positions(source)
        taken = [replace(step, after=stands.get(step.stream)) for step in steps]
        return super().append(source, known, payloads, taken)


class MixesPositions(SqliteLog):
    def positions(self, source: str) -> dict[str, str]:
        return super().positions("a")


BROKEN = [
    CountsFromOne, KeepsKnownTimes, ReadsOneTooMany, IncludesTheInstant, Forgets, HasOneSource,
    TakesWhatItCan, MixesPositions, StepsFromAnywhere,
]  # fmt: skip


@pytest.mark.parametrize(("name", "broken"), list(zip(NAMES, BROKEN, strict=True)))
def test_the_check_bites(name: str, broken: type[SqliteLog], tmp_path: Path) -> None:
    with pytest.raises(LawBroken):
        dict(event_log_checks(lambda log: broken(tmp_path / log)))[name]()


def test_the_check_notices_records_that_come_without_their_step(tmp_path: Path) -> None:
    with pytest.raises(LawBroken, match="no record came"):
        dict(event_log_checks(lambda log: LeavesThePosition(tmp_path / log)))[NAMES[-1]]()


TRIM_NAMES = [name for name, _ in trimmable_log_checks(lambda name: SqliteLog(Path(name)))]


@pytest.mark.parametrize("name", TRIM_NAMES)
def test_the_embedded_log_is_trimmed_by_the_law(name: str, tmp_path: Path) -> None:
    dict(trimmable_log_checks(lambda log: SqliteLog(tmp_path / log)))[name]()


class ShiftsOffsets(SqliteLog):
    """Reads on from what is kept as if nothing had gone."""

    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        first = self.end(source).first_offset
        return super().read(source, max(after, first - 1) + (first > 0), limit, known_before)


class TrimsOneTooMany(SqliteLog):
    def trim(self, source: str, before: int) -> int:
        return super().trim(source, before + 1)


class ForgetsTheEnd(SqliteLog):
    def trim(self, source: str, before: int) -> int:
        gone = super().trim(source, before)
        self._db.execute("DELETE FROM segments WHERE source = ? AND first < ?", (source, before))
        return gone


class AnswersWhatIsLeft(SqliteLog):
    def read(
        self, source: str, after: int, limit: int, known_before: int | None = None
    ) -> LogBatch:
        first = self.end(source).first_offset
        return super().read(source, max(after, first - 1), limit, known_before)


class CutsAnInstantLate(SqliteLog):
    def cut(self, source: str, known_before: int | None, octets: int | None) -> int:
        later = None if known_before is None else known_before + 1
        return super().cut(source, later, octets)


TRIM_BROKEN = [ShiftsOffsets, TrimsOneTooMany, ForgetsTheEnd, AnswersWhatIsLeft, CutsAnInstantLate]


@pytest.mark.parametrize(("name", "broken"), list(zip(TRIM_NAMES, TRIM_BROKEN, strict=True)))
def test_the_check_of_trimming_bites(name: str, broken: type[SqliteLog], tmp_path: Path) -> None:
    with pytest.raises(LawBroken):
        dict(trimmable_log_checks(lambda log: broken(tmp_path / log)))[name]()
