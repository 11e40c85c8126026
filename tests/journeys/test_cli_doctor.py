"""A damaged home is told apart from a sound one, and never ends in a traceback."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

import pytest

from homeostat.runtime import doctor
from homeostat.runtime.cli_shared import Session
from homeostat.testing.toy_home import Commands


def test_doctor_finds_a_sound_home_sound(lived: Commands) -> None:
    found = lived("doctor", "--json")
    assert (found.status, found.json["healthy"]) == (0, True)
    assert {c["status"] for c in found.json["checks"]} == {"ok", "note"}
    assert "nothing is broken" in lived("doctor").out


def cut_log(state: Path) -> None:
    with sqlite3.connect(state / "log.db") as database:
        database.execute("DELETE FROM segments WHERE source = 'verdicts'")
    database.close()


def flip_log(state: Path) -> None:
    with sqlite3.connect(state / "log.db") as database:
        database.execute("UPDATE segments SET body = zeroblob(length(body)) WHERE first = 0")
    database.close()


def change_journal(state: Path) -> None:
    with sqlite3.connect(state / "meta.db") as database:
        database.execute("UPDATE journal SET body = replace(body, 'no model', 'a model')")
    database.close()


def damage_package(state: Path) -> None:
    graph = state / "packages" / "fraud@2" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")


def lose_store(state: Path) -> None:
    (state / "online" / "data.mdb").write_bytes(b"not a database" * 1000)


def lose_lake(state: Path) -> None:
    for file in (state / "lake" / "payments").glob("_day=2024-03-08/*.parquet"):
        file.unlink()


def not_a_database(state: Path) -> None:
    (state / "predictions.db").write_bytes(b"not a database" * 1000)


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (cut_log, "offsets of verdicts"), (flip_log, "log"), (change_journal, "journal"),
        (damage_package, "package fraud@2"), (lose_store, "home"), (lose_lake, "lake"),
        (not_a_database, "predictions.db"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_doctor_finds_what_is_broken_and_says_what_to_do(
    own: Commands, harm: object, part: str
) -> None:
    assert callable(harm)
    harm(own.folder / "state")
    found = own("doctor", "--json")
    assert found.status == 3
    broken = {c["name"]: c for c in found.json["checks"] if c["status"] == "broken"}
    assert part in broken
    assert all(check["advice"] for check in broken.values())
    assert " broken" in own("doctor").out.splitlines()[-1]


def test_a_full_disk_is_no_damage(
    lived: Commands, own: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **named: object) -> None:
        raise sqlite3.OperationalError("unable") from OSError(errno.ENOSPC, "No space left")

    assert "disk" in {c["name"] for c in lived("doctor", "--json").json["checks"]}
    monkeypatch.setattr(doctor, "room_of", lambda folder: 10)
    monkeypatch.setattr(doctor, "Home", full)
    monkeypatch.setattr(Session, "opened", full)
    found = own("doctor", "--json")
    broken = {c["name"]: c["advice"] for c in found.json["checks"] if c["status"] == "broken"}
    assert broken.keys() == {"disk", "home"}
    assert all(advice.startswith("make room there") for advice in broken.values())


def test_a_damaged_home_is_told_without_a_traceback(own: Commands) -> None:
    not_a_database(own.folder / "state")
    found = own("status")
    assert (found.status, "homeostat doctor" in found.err) == (1, True)


def test_a_home_that_is_gone_is_not_made_by_looking(own: Commands) -> None:
    shutil.rmtree(own.folder / "state")
    for words in (
        ("status",),
        ("journal",),
        ("rollback", "fraud"),
        ("replay",),
        ("train", "fraud"),
    ):
        found = own(*words)
        assert (found.status, "there is none" in found.err) == (1, True), words
    assert own("doctor").status == 3
    assert not (own.folder / "state").exists()
