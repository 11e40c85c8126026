"""Declarations are applied beside a running server, and by commands that are killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from homeostat.core.clock import ManualClock
from homeostat.runtime.app import App
from homeostat.runtime.applying_beside import asked_of_the_process
from homeostat.runtime.giving_up import GivingUp
from homeostat.runtime.loading import load_system
from homeostat.runtime.orders import OrderFailed, Orders
from homeostat.testing.toy_home import Commands
from homeostat.testing.toy_replay import toy_schedule

PATIENCE_S = 30.0
REQUEST = {"card": "card-1", "merchant": "casino", "amount": 80.0}

CHANGED = """\
from dataclasses import replace

import homeostat as hs
from homeostat import col, count
from homeostat.testing.toy_home import patient_toy


def changed(old: hs.System) -> hs.System:
    cards, merchants = old.views
    model = old.model("fraud")
    own = tuple(reversed(cards.aggregations))
    cards = replace(cards, aggregations=(count().over("3h"), *own), where=col("amount") > 5)
    busy = hs.FeatureView("busy", merchants.entity, cards.source, (count().over("1h"),))
    features = tuple(reversed((*model.features, busy["count_1h"])))
    other = replace(model, features=features)
    deployment = replace(old.deployments[0], model=other)
    return hs.System(
        old.name, sources=old.sources, views=(merchants, busy, cards),
        models=(other, old.models[1]), deployments=(deployment,),
    )


system = changed(patient_toy())
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words]


@contextmanager
def running(commands: Commands) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a home on a free port until the block ends; yield the process and its address."""
    words = command("run", "--clock", "replay", "--port", "0", "--json", *commands.options())
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.folder
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(process.communicate(timeout=PATIENCE_S)[1])
            yield process, str(json.loads(line)["address"])
        finally:
            process.kill()


def asked(address: str) -> dict[str, Any]:
    answer = httpx.post(f"{address}/predict/fraud", json=REQUEST, timeout=PATIENCE_S).json()
    assert (answer["arm"], answer["degraded"]) == ("champion", [])
    return dict(answer)


def holds(commands: Commands, prediction_id: str) -> bool:
    began = monotonic()
    while commands("receipt", prediction_id).status == 1:  # not written down yet
        assert monotonic() - began < PATIENCE_S
        sleep(0.02)
    return bool(commands("receipt", prediction_id, "--json").json["holds"])


def test_declarations_are_applied_beside_a_server_that_goes_on(own: Commands) -> None:
    with running(own) as (process, address):
        before = asked(address)["prediction_id"]
        (own.folder / "system.py").write_text(CHANGED)
        planned = own("plan", "--json").json
        assert planned["views_to_fill"] == ["busy", "cards"]
        assert planned["lost"] == []
        meanwhile = asked(address)["prediction_id"]  # the file on disk is none of its business
        done = own("apply", "--json")
        assert (done.status, done.json["beside"]) == (0, f"process {process.pid}")
        after = asked(address)["prediction_id"]
        ready = httpx.get(f"{address}/ready").json()
        assert any("next start" in note for note in ready["notes"])
        told = own("status", "--json").json["restart"]
        assert told.startswith("restart pending: ")
        assert "view 'cards' changed" in told
        assert told in {one["found"] for one in own("doctor", "--json").json["checks"]}
        assert own("plan", "--exit-code").status == 0
        assert own("apply").status == 0
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
    assert "next start" in said[1]
    with running(own) as (_, address):
        restarted = asked(address)["prediction_id"]
        assert httpx.get(f"{address}/ready").json()["notes"] == []
        assert own("status", "--json").json["restart"] == ""
        assert all(holds(own, name) for name in (before, meanwhile, after, restarted))
    audit = own("features", "audit", "fraud", "--json")
    assert (audit.status, audit.json["different"]) == (0, 0)


def test_a_change_of_a_source_is_refused_beside_a_server(own: Commands) -> None:
    with running(own) as (_, address):
        other = CHANGED.replace(
            "system = changed(patient_toy())",
            "olds = [patient_toy()]\n"
            "extra = hs.EventSource('extra', olds[0].sources[0].event, event_id='payment_id',\n"
            "                       event_time='asked_at')\n"
            "system = replace(olds[0], sources=(*olds[0].sources, extra))",
        )
        (own.folder / "system.py").write_text(other)
        refused = own("apply")
        assert refused.status == 1
        assert "stop the process" in refused.err
        asked(address)


def test_versions_are_given_up_beside_a_server(own: Commands) -> None:
    with running(own) as (_, address):
        (own.folder / "system.py").write_text(
            "from homeostat.testing.toy_changes import toy_without_code\n\n"
            "system = toy_without_code(is_kept=False)\n"
        )
        assert "loses feature 'times_usual'" in own("apply").err
        [stands] = own("status", "--json").json["models"]
        now, back = stands["champion"], stands["previous"]
        both = ("--give-up", f"fraud@{now}", "--give-up", f"fraud@{back}")
        done = own("apply", *both, "--reason", "wrong code")
        assert done.status == 0
        assert f"gave up fraud@{now}" in done.out
        told = f"restart pending: other declarations were applied (fraud@{now} given up"
        status = own("status", "--json").json
        ready = httpx.get(f"{address}/ready", timeout=PATIENCE_S).json()["notes"]
        assert status["restart"].startswith(told)
        assert any(note.startswith(told) for note in ready)
        [silent] = [one for one in status["silent"] if one["version"] == f"fraud@{now}"]
        assert silent["until_restart"]
        assert "answers until then" in own("status").out
        made = own("journal", "--action", "give_up", "--json").json["decisions"]
        assert [(d["version"], d["reason"]) for d in made] == [
            (now, "wrong code"), (back, "wrong code"),
        ]  # fmt: skip
        asked(address)  # until its next start it goes on as before
    status = own("status", "--json").json
    assert status["restart"] == ""
    assert not any(one["until_restart"] for one in status["silent"])
    assert own("doctor", "--json").json["checks"]
    assert own("train", "fraud").status == 0
    with running(own) as (_, address):
        answer = httpx.post(f"{address}/predict/fraud", json=REQUEST, timeout=PATIENCE_S).json()
        assert (answer["version"], answer["arm"], answer["degraded"]) == (now + 1, "champion", [])


@pytest.mark.parametrize("came", [True, False])
def test_a_change_holds_only_if_it_was_judged_by_all_in_service(own: Commands, came: bool) -> None:
    state, file = own.folder / "state", own.folder / "system.py"
    with App(load_system(file), state, ManualClock(toy_schedule().end)) as app:
        file.write_text(CHANGED)
        _, order = asked_of_the_process(app.home, load_system(file), GivingUp())
        if came:  # as if the champion had come after the order was made
            order = json.dumps({**json.loads(order), "judged": {}})
        orders = Orders(state / "meta.db")
        number = orders.place("apply", "toy", order)
        app.live.tick()
        app.live.close()  # waits for the order
        if not came:
            assert orders.outcome(number) == []
            return
        with pytest.raises(OrderFailed, match=r"fraud@\d+.* came into service .*apply` again"):
            orders.outcome(number)
    assert own("plan", "--exit-code").status == 3, "nothing was applied"


def life(folder: Path, file: Path) -> list[Any]:
    """Return what a home logs of some requests, from a fixed instant on."""
    clock = ManualClock(toy_schedule().end)
    with App(load_system(file), folder, clock) as app:
        found = []
        for number in range(5):
            clock.advance_to(app.clock.now() + 600_000_000)
            request = {**REQUEST, "payment_id": f"asked-{number}"}
            [answer] = app.predict("fraud", request)
            one = app.receipt(answer.prediction_id)
            assert one.holds
            found.append((answer.score, answer.version, answer.arm, repr(one.features)))
        assert app.audit("fraud").different == 0
        return found


COUNTED = """\
import os
import signal
import sys
from pathlib import Path

import homeostat.runtime.applying
from homeostat.runtime.cli import main

PARTS = ("applying.py", "backfill.py", "filled.py", "plan.py", "lake_sink.py", "lmdb.py")
last, passed = int(sys.argv[1]), 0


def pass_by(frame, event, argument):
    global passed
    if Path(frame.f_code.co_filename).name in PARTS:
        passed += 1
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)


sys.setprofile(pass_by)
try:
    main(sys.argv[2:])
finally:
    sys.setprofile(None)
    print(passed)
"""
"""Runs a command that is killed at the given call, or return from one, within what applies."""


def killed_at(call: int, commands: Commands) -> subprocess.CompletedProcess[str]:
    """Apply, and be killed at a call; at 0 never, and say how many there were."""
    words = [sys.executable, "-c", COUNTED, str(call), "apply", *commands.options()]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def declare(commands: Commands, seed: int) -> Path:
    """Draw other declarations; return the file of those that were there."""
    former = commands.folder / "former.py"
    former.write_text((commands.folder / "system.py").read_text())
    (commands.folder / "system.py").write_text(
        f"from homeostat.testing.toy_changes import changed_toy\n\nsystem = changed_toy({seed})\n"
    )
    return former


def killed_applies(own: Commands, seed: int, kills: int) -> bool:
    """Kill `apply` at drawn calls; return whether the change was taken in the end.

    What a kill leaves is undone by the former declarations; or `apply` is run again, and again.
    The champion answers as in a home that knew nothing of it.
    """
    draw, state = random.Random(seed), own.folder / "state"
    for name in ("twin", "trial"):
        shutil.copytree(state, own.folder / name)
    former = declare(own, seed)
    expected = life(own.folder / "twin", former)
    trial = killed_at(0, Commands(own.folder, "trial"))
    if trial.returncode:
        assert "loses feature 'times_usual'" in trial.stderr
        assert life(state, former) == expected
        return False
    calls = int(trial.stdout.split()[-1])
    for number in range(kills):
        killed = killed_at(draw.randint(1, calls), own)
        assert killed.returncode == -signal.SIGKILL, killed
        if own("plan", "--exit-code").status and number == kills // 2:
            undone = shutil.copytree(state, own.folder / "undone")
            assert life(undone, former) == expected
    assert own("apply").status == 0
    assert life(state, own.folder / "system.py") == expected
    return True


@pytest.mark.parametrize("seed", [4])
def test_an_apply_that_is_killed_is_run_again_or_undone(own: Commands, seed: int) -> None:
    killed_applies(own, seed, 2)


@pytest.mark.soak
def test_many_applies_of_any_change_are_killed(lived: Commands, tmp_path: Path) -> None:
    taken = []
    for seed in range(20, 50):
        own = Commands(Path(shutil.copytree(lived.folder, tmp_path / str(seed))))
        taken.append(killed_applies(own, seed, 5))
    assert 0.3 < sum(taken) / len(taken) < 0.95


def applied_beside(own: Commands, seed: int) -> str:
    """Apply a drawn change beside a server that answers; return what became of it."""
    with running(own) as (process, address):
        former = declare(own, seed)
        answers = [asked(address)]
        done = own("apply")
        answers.append(asked(address))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    outcome = "taken" if done.status == 0 else "refused"
    if "stop the process" in done.err:
        retried = own("apply")
        outcome = "stopped for" if retried.status == 0 else "refused"
    if outcome == "refused":
        assert "loses feature 'times_usual'" in own("apply").err
        former.replace(own.folder / "system.py")
    with running(own) as (_, address):
        answers.append(asked(address))
        assert all(holds(own, answer["prediction_id"]) for answer in answers)
    audit = own("features", "audit", "fraud", "--json")
    assert (audit.status, audit.json["different"], audit.json["skipped"]) == (0, 0, 0)
    return outcome


@pytest.mark.parametrize("seed", [0])
def test_any_change_is_applied_beside_a_server(own: Commands, seed: int) -> None:
    assert applied_beside(own, seed) == "taken"


@pytest.mark.soak
def test_many_changes_are_applied_beside_servers(lived: Commands, tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(50, 70):
        own = Commands(Path(shutil.copytree(lived.folder, tmp_path / str(seed))))
        outcomes.add(applied_beside(own, seed))
    assert outcomes == {"taken", "refused", "stopped for"}


@pytest.mark.soak
def test_servers_are_killed_while_they_apply(lived: Commands, tmp_path: Path) -> None:
    draw = random.Random(7)
    for seed in range(70, 82):
        own = Commands(Path(shutil.copytree(lived.folder, tmp_path / str(seed))))
        shutil.copytree(own.folder / "state", own.folder / "twin")
        with running(own) as (process, _):
            former = declare(own, seed)
            with subprocess.Popen(
                command("apply", *own.options()), stderr=subprocess.PIPE, stdout=subprocess.PIPE
            ) as asking:
                sleep(draw.uniform(0.5, 2.5))
                process.kill()
                process.wait()
                asking.kill()
        taken = own("apply").status == 0
        file = own.folder / "system.py" if taken else former
        assert life(own.folder / "state", file) == life(own.folder / "twin", former)
