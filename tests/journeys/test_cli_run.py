"""A real process runs a home: it answers, and is looked at, acted on and stopped from outside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from homeostat.core.errors import HomeostatError
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime.warehouse import connect
from homeostat.testing.toy_home import Commands

PATIENCE_S = 30.0
REQUEST = {"card": "card-1", "merchant": "casino", "amount": 80.0}


@dataclass
class Running:
    """A process that runs a home, and what it said when it began."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    @property
    def address(self) -> str:
        return str(self.said["address"])

    def ask(self, path: str = "/predict/fraud", **given: Any) -> httpx.Response:
        return httpx.post(self.address + path, timeout=PATIENCE_S, **given)

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit status and what was said on stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, err


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words]


@contextmanager
def running(commands: Commands) -> Iterator[Running]:
    """Run a home on a free port until the block ends."""
    words = command("run", "--clock", "replay", "--port", "0", "--json", *commands.options())
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.folder
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(process.communicate(timeout=PATIENCE_S)[1])
            yield Running(process, json.loads(line))
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does; fail if it never does."""
    began = monotonic()
    while not holds():
        assert monotonic() - began < PATIENCE_S, "it did not happen"
        sleep(0.02)


def test_a_home_is_run_asked_looked_at_acted_on_and_stopped(own: Commands) -> None:
    with running(own) as run:
        assert run.said["models"] == {"fraud": 3}
        assert "the present of this home is 2024-03-13 12:00:00 UTC" in run.said["clock"]
        answer = run.ask(json=REQUEST, params={"reasons": "true"}).json()
        assert (answer["version"], answer["degraded"]) == (3, [])
        assert answer["reasons"]
        assert answer["at"].startswith("2024-03-13T12:00:")

        sent = {"payment_id": "live-1", **REQUEST}
        named = run.ask(json=sent).json()["prediction_id"]
        until(lambda: own("receipt", named).status == 0)
        assert own("receipt", named, "--json").json["holds"] is True
        assert own("status", "--json").json["written_by"] == f"process {run.process.pid}"
        count = "count_1h"
        live = ("features", "read", "cards", "card=card-1", "--json")
        until(lambda: own(*live).json["features"][count] == 1)  # the request is an event

        for words in (("run", "--port", "0"), ("replay",)):
            busy = own(*words)
            assert (busy.status, f"process {run.process.pid}" in busy.err) == (1, True), words

        file = own.folder / "more.ndjson"
        event = {**sent, "payment_id": "live-2", "asked_at": "2024-03-13T12:00:00Z"}
        file.write_text(json.dumps(event) + "\n{\n")
        beside = own("ingest", "payments", file, "--received-now")
        assert (beside.status, "Another process runs this home" in beside.err) == (0, True)
        until(lambda: own(*live).json["features"][count] == 2)
        listed = own("dead-letters", "list", "--reason", "malformed", "--json").json["letters"]
        offset = str(listed[0]["offset"])
        whole = json.dumps({**event, "payment_id": "live-3"})
        assert own("dead-letters", "repair", "payments", offset, "--payload", whole).status == 0
        assert own("dead-letters", "replay", "--json").json == {
            "sent": 1, "folded": False, "sources": [],
        }  # fmt: skip
        until(lambda: own(*live).json["features"][count] == 3)

        back = own("rollback", "fraud", "--reason", "a rehearsal", "--json").json
        assert (back["version"], back["evidence"]["back_to"]) == (3, 2)
        assert run.ask(json=REQUEST).json()["version"] == 2
        assert own("rollback", "fraud").status == 1
        trained = own("train", "fraud", "--json").json
        assert trained[0]["action"] == "train"
        status, err = run.stop(signal.SIGTERM)
    assert (status, err) == (0, "")
    assert own("receipt", named).status == 0
    assert own("doctor").status == 0
    present = own("status", "--json").json
    assert (present["written_by"], present["present"] > answer["at"]) == (None, True)


def test_a_home_goes_on_after_it_was_killed(own: Commands) -> None:
    with running(own) as run:
        first = run.ask(json={"payment_id": "live-1", **REQUEST}).json()
        until(lambda: own("receipt", first["prediction_id"]).status == 0)
        assert run.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    with running(own) as run:
        second = run.ask(json=REQUEST).json()
        assert second["at"] > first["at"]  # its own clock never goes back
        assert run.stop(signal.SIGINT)[0] == 0
    assert own("receipt", second["prediction_id"]).status == 0
    assert own("receipt", first["prediction_id"]).status == 0
    assert own("features", "audit", "fraud", "--json").json["different"] == 0
    assert own("doctor").status == 0


def test_malformed_requests_are_told_what_is_wrong_and_the_example_works(own: Commands) -> None:
    with running(own) as run:
        answers = [
            (run.ask(content=b"{"), 400, "JSON"),
            (run.ask(content=b"\xff"), 400, "UTF-8"),
            (run.ask(json=[]), 422, ""),
            (run.ask(json={**REQUEST, "amount": "much"}), 422, "amount"),
            (run.ask(json={**REQUEST, "colour": "red"}), 422, "colour"),
            (run.ask(json={"card": "card-1", "merchant": "kiosk"}), 422, "amount"),
            (run.ask("/predict/frod", json=REQUEST), 404, "Did you mean 'fraud'?"),
            (run.ask("/predicts/fraud", json=REQUEST), 404, "/predict/{model}"),
            (run.ask("/events/payments", content=b"{"), 400, ""),
            (run.ask("/events/nothing", json={}), 404, "Known: payments, verdicts"),
            (httpx.get(run.address + "/predict/fraud"), 405, "POST"),
            (httpx.get(run.address + "/predictions/none"), 404, "none"),
        ]
        for answer, status, said in answers:
            assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert run.ask(json=REQUEST).status_code == 200
        assert httpx.get(run.address + "/ready").json()["ready"] is True
        assert "homeostat_predictions" in httpx.get(run.address + "/metrics").text
        port = run.address.rpartition(":")[2]
        taken = Commands(own.folder, home="elsewhere")("run", "--port", port)
        assert (taken.status, "cannot be listened on" in taken.err) == (1, True)

        words = shlex.split(run.said["example"])
        assert words[:2] == ["curl", "-s"]
        example = httpx.post(words[2], content=words[4].encode(), timeout=PATIENCE_S)
        assert example.status_code == 200, example.text
        assert example.json()["reasons"]
        assert run.stop(signal.SIGTERM) == (0, "")


def test_the_features_are_answered_and_exported_to_feast(own: Commands) -> None:
    sent = {"payment_id": "live-1", **REQUEST}
    with running(own) as run:
        run.ask(json=sent)
        live = ("features", "read", "cards", "card=card-1", "--json")
        until(lambda: own(*live).json["features"]["count_1h"] == 1)
        asked = {
            "feature_service": "fraud",
            "entities": {"card": ["card-1"], "merchant": ["kiosk"]},
        }
        body = run.ask("/get-online-features", json=asked).json()
        values = [result["values"][0] for result in body["results"]]
        found = dict(zip(body["metadata"]["feature_names"], values, strict=True))
        assert (found["count_1h"], found["amount_sum_1d"] >= 80.0) == (1, True)
        folder = own.folder / "feast"
        words = ("features", "export", "--feast", folder, "--server", run.address)
        beside = own(*words, "--json").json
        run.stop(signal.SIGTERM)
    told = own("sql", "select count(*) as n from payments", "--json").json
    assert beside["events"]["payments"] == told[0]["n"]  # the request just made among them
    assert run.address in (folder / "feature_store.yaml").read_text()
    assert 'name="fraud"' in (folder / "features.py").read_text()
    assert "feast apply" in own(*words).out
    wrong = own("features", "export", "--feast", folder, "--server", "localhost:8000")
    assert (wrong.status, "such as http://127.0.0.1:8000" in wrong.err) == (2, True)
    (folder / "feature_store.yaml").write_text("project: mine")
    taken = own(*words)
    assert (taken.status, "not written by an export" in taken.err) == (1, True)


def test_a_system_without_history_answers_with_the_default_score(fresh: Commands) -> None:
    with running(fresh) as run:
        assert run.said["models"] == {"fraud": None}
        assert run.said["clock"] == ""
        answer = run.ask(json=REQUEST).json()
        assert (answer["score"], answer["version"], answer["arm"]) == (0.1, None, "score")
        refused = run.ask("/events/payments", json={"payment_id": "a"})
        assert refused.status_code == 422
        assert refused.json()["error"]["problems"][0]["reason"] == "missing_field:card"
        ahead = {"payment_id": "a", "asked_at": "2999-01-01T00:00:00Z", **REQUEST}
        assert run.ask("/events/payments", json=ahead).status_code == 202
        until(lambda: "future" in fresh("dead-letters", "list").out)
        run.stop(signal.SIGTERM)
    assert fresh("doctor").status == 0


def test_an_interrupted_replay_goes_on_to_the_same_end(fresh: Commands, lived: Commands) -> None:
    fresh.ingest()
    words = command("replay", "--from", "2024-03-06", "--every", "12h", *fresh.options())
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        first = run.stderr.readline()  # the first decision
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=PATIENCE_S)
    assert "train" in first
    assert run.returncode in (0, 130)
    assert ("the same command goes on from here" in err) == (run.returncode == 130)
    other = fresh("replay", "--from", "2024-03-07")
    assert (other.status, "it has begun with other steps" in other.err) == (1, True)
    done = fresh("replay", "--json")
    assert done.status == 0
    assert fresh("journal", "--json").json == lived("journal", "--json").json
    assert fresh("models", "--json").json == lived("models", "--json").json
    assert "nothing left to replay" in fresh("replay").out


def test_a_replay_can_go_on_beyond_its_end(fresh: Commands, lived: Commands) -> None:
    fresh.ingest()
    part = fresh.replay("--to", "2024-03-07", "--json").json
    assert part["to"] == "2024-03-07T00:00:00+00:00"
    assert fresh("status", "--json").json["present"] == part["to"]
    rest = fresh("replay", "--json").json
    assert rest["predictions"] + part["predictions"] == lived(
        "sql", "select count(*) as n from predictions_fraud", "--json"
    ).json[0]["n"]  # fmt: skip
    assert rest["journal_hash"] == lived("journal", "--json").json["hash"]


def test_a_home_of_real_time_is_not_replayed(fresh: Commands) -> None:
    fresh.ingest()
    assert fresh("train", "fraud").status in (0, 3)
    refused = fresh.replay()
    assert (refused.status, "it has lived in real time" in refused.err) == (1, True)
    assert fresh("replay").status == 1


def test_a_replay_without_a_beginning_or_events_says_so(fresh: Commands) -> None:
    missing = fresh("replay")
    assert (missing.status, "there is none" in missing.err) == (1, True)
    fresh("apply")
    empty = fresh.replay()
    assert (empty.status, "its log is empty" in empty.err) == (1, True)
    fresh.ingest()
    unsaid = fresh("replay")
    assert (unsaid.status, "--from 2024-03-0" in unsaid.err) == (2, True)
    late = fresh("replay", "--from", "2025-01-01")
    assert (late.status, "before the log's end" in late.err) == (1, True)


def test_a_reader_that_goes_away_is_no_error(lived: Commands, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        found = subprocess.run(
            command("journal", *lived.options()),
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert "Traceback" not in found.stderr


def test_the_warehouse_is_asked_beside_the_process_that_runs_the_home(own: Commands) -> None:
    with running(own) as run, connect(own.folder / "system.py", own.folder / own.home) as asked:
        tables = {name for (name,) in asked.execute("show tables").fetchall()}
        assert tables >= {"payments", "verdicts", "predictions_fraud", "decisions", "metrics"}
        before = asked.execute("select count(*) from decisions").fetchall()
        assert own("train", "fraud", "--json").status == 0
        assert asked.execute("select count(*) from decisions").fetchall() == before
        asked.refresh()
        assert asked.execute("select count(*) from decisions").fetchall() > before
        versions = asked.execute("select max(version) from metrics").fetchall()
        assert versions[0][0] >= 3
        assert run.stop(signal.SIGTERM)[0] == 0
    nobody = own.folder / "nobody"
    with pytest.raises(HomeostatError, match="allowed: the folder of a home that has begun"):
        connect(own.folder / "system.py", nobody)
    assert not nobody.exists()


def test_the_log_of_a_home_that_runs_lets_go_of_what_the_profile_says(own: Commands) -> None:
    (own.folder / "homeostat.toml").write_text("[log]\nkeep_bytes = 1\n")
    with running(own) as run:
        for number in range(3):
            event = {"payment_id": f"new-{number}", "asked_at": "2024-03-13T12:00:00Z", **REQUEST}
            assert run.ask("/events/payments", json=event).status_code == 202
        run.stop(signal.SIGTERM)
    log = SqliteLog(own.folder / own.home / "log.db")
    assert log.end("payments").first_offset == 0  # the last append of all is kept
    with running(own) as run:
        until(lambda: log.end("payments").first_offset > 0)
        assert run.ask(json=REQUEST).status_code == 200
        run.stop(signal.SIGTERM)
    assert log.end("payments").next_offset - log.end("payments").first_offset <= 5
    log.close()
    doctor = own("doctor", "--json")
    assert doctor.status == 0
    (own.folder / "homeostat.toml").write_text("[log]\nkeep = 'long'\n")
    refused = own("run", "--port", "0")
    assert (refused.status, "keep='long' is no duration" in refused.err) == (1, True)
    assert own("status").status == 0
