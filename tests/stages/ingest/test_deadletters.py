"""Quarantine keeps each record once, and lets it go once."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat.core.errors import UnknownName
from homeostat.ingest.deadletters import DeadLetters, LetterClosed
from homeostat.ingest.intake import DeadLetter, Intake, Taken
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.testing.memory_store import MemoryStore


class Reading(hs.Event):
    reading: str
    at: hs.Timestamp
    value: float


readings = hs.EventSource("readings", Reading, event_id="reading", event_time="at", lateness="1d")

GOOD = b'{"reading":"a","at":"1970-01-01T00:00:00Z","value":1}'
BAD = b'{"reading":"b","at":"1970-01-01T00:00:00Z","value":"two"}'
REPAIRED = BAD.replace(b'"two"', b"2")


class Rig:
    """A log, a quarantine and an intake that can be read from the start again."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder / "log.sqlite")
        self.letters = DeadLetters(folder / "meta.sqlite")
        self.store = MemoryStore()

    def take_all(self) -> Taken:
        with self.store.writer() as seen:
            taken = Intake(readings).take(self.log.read("readings", -1, 1_000), seen)
        self.letters.add(taken.rejected)
        return taken

    def close(self) -> None:
        self.log.close()
        self.letters.close()


@pytest.fixture
def rig(tmp_path: Path):  # type: ignore[no-untyped-def]
    found = Rig(tmp_path)
    yield found
    found.close()


def letter(offset: int, reason: str = "malformed") -> DeadLetter:
    return DeadLetter("readings", offset, offset, reason, "why", b"{")


def test_adding_again_adds_nothing(rig: Rig) -> None:
    assert rig.letters.add([letter(1), letter(2, "future"), letter(1)]) == 2
    assert rig.letters.add([letter(2, "future"), letter(3)]) == 1
    assert rig.letters.add([]) == 0
    assert rig.letters.counts() == {("readings", "future"): 1, ("readings", "malformed"): 2}
    assert [found.letter.offset for found in rig.letters.list(reason="malformed")] == [1, 3]
    assert rig.letters.list(limit=1)[0].letter == letter(1)
    assert rig.letters.list("other") == []


def test_a_repaired_letter_joins_the_flow_once(rig: Rig) -> None:
    rig.log.append("readings", [0, 0], [GOOD, BAD])
    assert rig.take_all().events["_id"].to_list() == ["a"]
    rig.letters.repair("readings", 1, REPAIRED)
    assert rig.letters.show("readings", 1).state == "repaired"
    assert rig.letters.replay(rig.log, at=9) == 1
    assert rig.letters.replay(rig.log, at=9) == 0
    taken = rig.take_all()
    assert taken.events["_id"].to_list() == ["a", "b"]
    assert taken.events["_known_time"].dt.epoch("us").to_list() == [0, 9]
    assert taken.events["_event_time"].dt.epoch("us").to_list() == [0, 0]
    assert rig.letters.show("readings", 1).replayed_as == 2
    assert rig.letters.counts("open") == {}, "taking the log again does not open it again"


def test_a_replay_that_was_killed_is_sent_twice_and_taken_once(rig: Rig) -> None:
    rig.log.append("readings", [0], [BAD])
    rig.take_all()
    rig.letters.repair("readings", 0, REPAIRED)
    rig.log.append("readings", [9], [REPAIRED])  # sent; the mark was not written
    rig.letters.replay(rig.log, at=9)
    taken = rig.take_all()
    assert (taken.accepted, taken.duplicates) == (1, 1)


def test_open_letters_are_sent_as_they_are_only_when_asked(rig: Rig) -> None:
    ahead = GOOD.replace(b"00:00:00Z", b"00:01:00Z")
    rig.log.append("readings", [0], [ahead])
    assert rig.take_all().rejected[0].reason == "future"
    assert rig.letters.replay(rig.log, at=60_000_000) == 0
    assert rig.letters.replay(rig.log, at=60_000_000, source="other", unrepaired=True) == 0
    assert rig.letters.replay(rig.log, at=60_000_000, source="readings", unrepaired=True) == 1
    assert rig.take_all().accepted == 1


def test_closed_letters_stay_closed(rig: Rig) -> None:
    rig.letters.add([letter(1)])
    rig.letters.drop("readings", 1)
    with pytest.raises(LetterClosed, match="dead letter 1 of 'readings' is dropped"):
        rig.letters.repair("readings", 1, GOOD)
    assert rig.letters.replay(rig.log, at=0, unrepaired=True) == 0
    assert rig.letters.show("readings", 1).letter.payload == b"{"


def test_what_is_not_there_is_said(rig: Rig) -> None:
    rig.letters.add([letter(7)])
    with pytest.raises(UnknownName, match=r"no dead letter named '8'.*Known: 7"):
        rig.letters.show("readings", 8)
    with pytest.raises(UnknownName, match="Did you mean 'open'"):
        rig.letters.list(state="opened")


def test_letters_outlive_the_process(tmp_path: Path) -> None:
    first = DeadLetters(tmp_path / "meta.sqlite")
    first.add([letter(1)])
    first.close()
    second = DeadLetters(tmp_path / "meta.sqlite")
    assert second.counts() == {("readings", "malformed"): 1}
    second.close()


def test_counts_are_ordered(rig: Rig) -> None:
    rig.letters.add([letter(i, reason) for i, reason in enumerate("zay")])
    assert [reason for _, reason in rig.letters.counts()] == ["a", "y", "z"]
    assert isinstance(pl.DataFrame(list(rig.letters.counts())), pl.DataFrame)
