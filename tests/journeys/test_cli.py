"""The command line as a whole: help, options, errors, and the declarations' commands."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from homeostat.runtime.cli import HEADINGS, main
from homeostat.testing.toy_home import Commands

MISTAKEN = """\
import homeostat as hs


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp


taps = hs.EventSource("taps", Tap, event_id="tap", event_time="when")
other = hs.EventSource("other", Tap, event_id="tap", event_time="at", lateness="1x")
system = hs.System("mistaken", sources=(taps, other))
"""


def every_command(group: click.Group = main) -> list[list[str]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += [[name, *words] for words in every_command(command)]
        else:
            found.append([name])
    return found


def test_the_help_lists_every_command_once() -> None:
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(listed) == sorted(main.commands)
    said = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in said for name in listed)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_explains_itself_and_takes_the_shared_options(words: list[str]) -> None:
    said = CliRunner().invoke(main, [*words, "--help"]).stdout
    for option in ("--system", "--home", "--json"):
        assert option in said
    assert said.startswith("Usage: ")


def test_options_may_stand_before_or_after_a_command(lived: Commands) -> None:
    after = CliRunner().invoke(main, ["models", *lived.options(), "--json"])
    before = CliRunner().invoke(main, [*lived.options(), "--json", "models"])
    assert json.loads(after.stdout) == json.loads(before.stdout)
    assert [row["version"] for row in json.loads(after.stdout) if row["model"] == "fraud"] == [
        1,
        2,
        3,
    ]


def test_an_option_beats_the_environment(
    lived: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEOSTAT_SYSTEM", str(lived.folder / "system.py"))
    monkeypatch.setenv("HOMEOSTAT_HOME", str(lived.folder / "state"))
    assert CliRunner().invoke(main, ["models"]).exit_code == 0
    elsewhere = CliRunner().invoke(main, ["--home", str(tmp_path / "none"), "models"])
    assert (elsewhere.exit_code, "there is none" in elsewhere.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "frod"), "Did you mean 'fraud'?"),
        (("features", "read", "card", "card=card-1"), "Did you mean 'cards'?"),
        (("features", "read", "cards", "crad=card-1"), "Did you mean 'card'?"),
        (("receipt", "nothing"), "find one with `homeostat sql`"),
        (("rebuild", "fraud@99"), "allowed: 1, 2"),
        (("sql", "select * from paymints"), "tables: decisions, payments"),
        (("journal", "--action", "promoted"), "Did you mean 'promote'?"),
        (("dead-letters", "show", "payments", "0"), "no dead letter named '0'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_error_is_one_message_and_exit_1(
    lived: Commands, words: tuple[str, ...], said: str
) -> None:
    found = lived(*words)
    assert (found.status, found.out) == (1, "")
    assert found.err.startswith("error: ")
    assert said in found.err
    machine = lived(*words, "--json")
    assert (machine.status, machine.err) == (1, "")
    assert said in machine.json["error"]
    assert machine.json["type"].isidentifier()


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",), ("rebuild", "fraud"), ("replay", "--from", "yesterday"),
        ("features", "training-set", "fraud", "--out", "x.txt"), ("features", "read", "cards"),
        ("ingest", "payments", "no-such-file.csv"), ("drift", "fraud", "--window", "7 days"),
        ("report", "--zone", "Mars"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_exit_2(lived: Commands, words: tuple[str, ...]) -> None:
    found = lived(*words)
    assert (found.status, found.out) == (2, "")
    assert "Usage: homeostat" in found.err


def test_a_pipe_gets_no_colour_and_no_wrapped_lines(lived: Commands) -> None:
    said = lived("journal").out
    assert "\x1b" not in said
    decisions = lived("journal", "--json").json["decisions"]
    lines = said.splitlines()
    assert len(lines) == len(decisions) + 2
    assert all(
        decision["reason"] in line for decision, line in zip(decisions, lines[1:-1], strict=True)
    )


def test_check_shows_every_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text(MISTAKEN)
    found = Commands(tmp_path)("check")
    assert found.status == 1
    assert "system.py:9: event source 'taps', clocks: no field named 'when'" in found.out
    assert "system.py:10: event source 'other': lateness='1x'" in found.out
    assert "2 mistakes" in found.out
    body = Commands(tmp_path)("check", "--json").json
    assert (len(body["mistakes"]), body["hash"]) == (2, None)
    assert Commands(tmp_path)("status").err.count("system.py:9:") == 1


def test_check_makes_every_estimator(fresh: Commands) -> None:
    path = fresh.folder / "system.py"
    path.write_text(
        path.read_text()
        + "from dataclasses import replace\nimport homeostat as hs\n"
        + "wrong = hs.Estimator('lightgbm:LGBMClassifier', {'n_estimatorz': 5, 'num_leafs': 3})\n"
        + "system = replace(system, deployments=(), monitors=(), retraining=(), models=tuple(\n"
        + "    replace(model, estimator=wrong) for model in system.models))\n"
    )
    found = fresh("check")
    assert found.status == 1
    for words in ("'n_estimatorz'. Did you mean 'n_estimators'", "'num_leafs'", "4 mistakes"):
        assert words in found.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import homeostat as hs\nhs.Lable\n", "line 2: AttributeError"),
        ("x = (\n", "line 1: SyntaxError: '(' was never closed"),
        ("import no_such_package\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "0 systems (none)"),
        (None, "not found"),
    ],
)
def test_a_file_that_is_no_system_is_told_without_a_traceback(
    tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "system.py").write_text(text)
    for command in ("check", "status"):
        found = Commands(tmp_path)(command)
        assert found.status == 1
        assert said in found.out + found.err
        assert "Traceback" not in found.out + found.err


def test_check_warns_and_strict_makes_it_a_finding(fresh: Commands) -> None:
    assert "own-outcome" not in fresh("check").out
    path = fresh.folder / "system.py"
    path.write_text(
        path.read_text()
        + "from dataclasses import replace\n"
        + "views = tuple(replace(view, exclude_own=False) for view in system.views)\n"
        + "system = replace(system, views=views)\n"
    )
    found = fresh("check")
    assert (found.status, "own-outcome: model 'fraud'" in found.out) == (0, True)
    assert fresh("check", "--strict").status == 3
    warned = fresh("check", "--json").json["warnings"]
    assert "own-outcome" in {warning["rule"] for warning in warned}


def test_what_a_system_prints_does_not_spoil_the_json(fresh: Commands) -> None:
    path = fresh.folder / "system.py"
    path.write_text(path.read_text() + "print('loaded')\n")
    assert fresh("check", "--json").json["system"] == "toy"


def test_init_leads_to_a_system_that_works(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["init", str(tmp_path / "cafes"), "--json"])
    assert [Path(path).name for path in json.loads(made.stdout)["written"]] == [
        "system.py", "orders.csv", "pickups.csv",
    ]  # fmt: skip
    again = CliRunner().invoke(main, ["init", str(tmp_path / "cafes")])
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    cafes = Commands(tmp_path / "cafes")
    assert cafes("check", "--strict").status == 0
    for source in ("orders", "pickups"):
        file = tmp_path / "cafes" / "data" / f"{source}.csv"
        counts = cafes("ingest", source, file, "--json").json["files"][0]
        assert counts["accepted"] == counts["records"] > 5000
    found = cafes("replay", "--from", "2024-06-21", "--every", "12h", "--json").json
    assert found["champions"] == {"late_order": 1}
    assert found["predictions"] > 500
    judged = cafes("evaluate", "late_order", "--json").json["periods"][-1]
    assert judged["auc"] > 0.65
    live = cafes("features", "read", "cafe_pickups", "cafe=station", "--json").json
    assert live["features"]["count_1h"] > 0
