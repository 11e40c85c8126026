"""A version that cannot answer: every advice works, and giving it up is a decision."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from homeostat.runtime.app import App
from homeostat.runtime.loading import load_system
from homeostat.testing.toy_home import SYSTEM, Commands

CODE = """\
from homeostat.testing.toy_changes import toy_without_code

system = toy_without_code(is_kept={kept})
"""

GUARDED = """
from dataclasses import replace
import homeostat as hs

[one] = system.deployments
guard = hs.Guard("error_rate", at_most=0.05, rows=20)
system = replace(system, deployments=(replace(one, guards=(*one.guards, guard)),))
"""


def declare(own: Commands, text: str) -> None:
    (own.folder / "system.py").write_text(text)


def version(own: Commands, role: str) -> str:
    """Return the version in a role, as in "fraud@2"."""
    [stands] = own("status", "--json").json["models"]
    return f"fraud@{stands[role]}"


def damage(own: Commands, role: str) -> None:
    name = version(own, role)
    package = own.folder / "state" / "packages" / name
    shutil.copytree(package, own.folder / "sound" / name)
    (package / "model.onnx").write_bytes(b"no graph")


def challenger(own: Commands) -> None:
    """Let a challenger come in that needs none of the code that the champion needs."""
    declare(own, CODE.format(kept=True))
    assert own("apply").status == 0
    assert own("train", "fraud").status == 0


def broken_champion(own: Commands) -> None:
    damage(own, "champion")


def broken_champion_beside_a_challenger(own: Commands) -> None:
    challenger(own)
    damage(own, "champion")


def broken_challenger(own: Commands) -> None:
    challenger(own)
    damage(own, "challenger")


def broken_way_back(own: Commands) -> None:
    damage(own, "previous")


def given_up(own: Commands) -> None:
    declare(own, CODE.format(kept=False))
    refused = own("apply")
    assert refused.status == 1
    [command] = re.findall(r"`homeostat (apply [^`]+)`", refused.err)
    silent = own(*command.removesuffix(" --reason WHY").split())
    assert silent.status == 1
    assert "no reason" in silent.err
    told = own(*command.replace("WHY", "the_code_was_wrong").split())
    assert told.status == 0
    assert f"gave up {version(own, 'champion')}" in told.out


def given_up_beside_a_challenger(own: Commands) -> None:
    challenger(own)
    given_up(own)


SITUATIONS = (
    broken_champion, broken_champion_beside_a_challenger, broken_challenger, broken_way_back,
    given_up, given_up_beside_a_challenger,
)  # fmt: skip


def advised(own: Commands) -> list[str]:
    """Return the alternatives of what doctor says about versions that answer nothing."""
    checks = own("doctor", "--json").json["checks"]
    found = [check for check in checks if re.match("champion|challenger|previous", check["name"])]
    broken = [check["advice"] for check in found if check["status"] == "broken"]
    return [part for advice in broken for part in advice.split("; or ")]


def followed(own: Commands, advice: str) -> None:
    """Do what an advice says, and let the loop take a step."""
    for name in re.findall(r"restore packages/(\S+) from", advice):
        package = own.folder / "state" / "packages" / name
        shutil.copytree(own.folder / "sound" / name, package, dirs_exist_ok=True)
    if "kept=" in advice:
        declare(own, CODE.format(kept=True))
    for command in re.findall(r"`homeostat ([^`]+)`", advice):
        assert own(*command.split()).status == 0, command
    with App(load_system(own.folder / "system.py"), own.folder / "state") as app:
        app.step()


def answers(own: Commands) -> bool:
    with App(load_system(own.folder / "system.py"), own.folder / "state") as app:
        request = {"card": "card-1", "merchant": "kiosk", "amount": 9.0}
        [answer] = app.predict("fraud", request)
    return (answer.arm, answer.degraded) == ("champion", [])


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_every_advice_on_a_version_that_answers_nothing_works(
    own: Commands, tmp_path_factory: pytest.TempPathFactory, situation: object
) -> None:
    assert callable(situation)
    situation(own)
    advice = advised(own)
    assert len(advice) >= 2
    for number, one in enumerate(advice):
        copy = tmp_path_factory.mktemp("copy") / str(number)
        trial = Commands(Path(shutil.copytree(own.folder, copy)))
        followed(trial, one)
        assert answers(trial), one
        assert not [line for line in advised(trial) if line == one]


def test_a_challenger_that_works_takes_the_place_of_one_given_up_under_traffic(
    own: Commands,
) -> None:
    given_up_beside_a_challenger(own)
    declare(own, CODE.format(kept=False) + GUARDED)
    assert own("apply").status == 0
    ours = version(own, "challenger")
    with App(load_system(own.folder / "system.py"), own.folder / "state") as app:
        for number in range(25):
            request = {"card": f"card-{number % 7}", "merchant": "kiosk", "amount": 9.0 + number}
            [answer] = app.predict("fraud", request)
            assert answer.degraded == ["model_broken"]
        made = app.step()
    assert [f"fraud@{d.version}" for d in made if d.action == "promote"] == [ours]
    assert not [d for d in made if d.action == "rollback"]
    assert version(own, "champion") == ours
    assert answers(own)


def test_nobody_goes_back_to_a_version_that_answers_nothing(own: Commands) -> None:
    broken_way_back(own)
    refused = own("rollback", "fraud")
    assert refused.status == 1
    assert ", the way back, answers nothing" in refused.err
    assert answers(own)


def test_giving_up_is_a_decision_with_its_reason(own: Commands) -> None:
    champion, back = version(own, "champion"), version(own, "previous")
    given_up(own)
    again = own("apply", "--give-up", champion, "--reason", "the_code_was_wrong")
    assert again.status == 0  # no second decision
    assert f"{champion} is not given up by this" in again.out
    for name in (champion, back):
        other = own("apply", "--give-up", name, "--reason", "another")
        assert other.status == 1
        assert "'the_code_was_wrong'" in other.err
    assert own("apply").status == 0  # and no longer asked for
    made = own("journal", "--action", "give_up", "--json").json["decisions"]
    assert [(f"fraud@{d['version']}", d["reason"]) for d in made] == [
        (champion, "the_code_was_wrong"), (back, "the_code_was_wrong"),
    ]  # fmt: skip
    assert made[0]["evidence"]["by"].endswith("by homeostat apply")
    assert made[0]["evidence"]["lost"][0]["feature"] == "times_usual"
    [silent] = own("status", "--json").json["silent"]
    assert (silent["version"], silent["given_up"]) == (champion, True)
    assert "given up" in own("status").out
    unknown = own("apply", "--give-up", "fraud@99", "--reason", "x")
    assert unknown.status == 1
    assert champion in unknown.err


def test_a_champion_does_not_leave_service_unasked(own: Commands) -> None:
    champion = version(own, "champion")
    renamed = "from homeostat.testing.toy_changes import toy_renamed\n\n"
    renamed += "system = toy_renamed(is_beside={beside})\n"
    declare(own, renamed.format(beside=False))
    planned = own("plan", "--json")
    assert planned.status == 3
    [line] = planned.json["lost"]
    assert line.startswith(f"{champion} (champion) leaves service: model 'fraud' is not deployed")
    refused = own("apply")
    assert refused.status == 1
    assert "keep the deployment of model 'fraud'" in refused.err
    declare(own, renamed.format(beside=True))
    assert own("plan").status == 0
    assert own("apply").status == 0
    assert answers(own)
    declare(own, renamed.format(beside=False))
    [command] = re.findall(r"`homeostat (apply [^`]+)`", own("apply").err)
    assert own(*command.split()).status == 0
    assert own("apply").status == 0
    made = own("journal", "--action", "give_up", "--json").json["decisions"]
    assert [f"{d['model']}@{d['version']}" for d in made] == [champion]
    assert own("doctor").status == 0
    declare(own, SYSTEM)  # deployed again, it answers again
    assert own("apply").status == 0
    assert answers(own)
