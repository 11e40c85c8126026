"""Declarations that `apply` refuses start nothing, whether they are compared or not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.runtime.app import App
from homeostat.runtime.loading import load_system
from homeostat.testing.toy_home import SYSTEM, Commands

HELPER = "def scale(amount):\n    return amount * {factor}\n"

DECLARED = """\
from dataclasses import replace

import numpy as np

import homeostat as hs
from homeostat.declare.system import System
from homeostat.testing.toy_home import patient_toy
from scaling import scale

old = patient_toy()
was = old.model("fraud")
usual = next(f for f in was.features if isinstance(f, hs.OnDemand))


def scaled(amount):
    return scale(np.asarray(amount)) + {added}


scaled = hs.OnDemand("scaled", ("amount",), scaled)
rest = tuple(f for f in was.features if f is not usual)
model = replace(was, features=({features}))
system = System(
    "toy", sources=old.sources, views=old.views, models=(model,),
    deployments=(replace(old.deployments[0], model=model),), kept=({kept}),
)
del old
"""

FIELD_GONE = """\
from dataclasses import replace

from homeostat.declare.system import System
from homeostat.testing.toy_home import patient_toy

old = patient_toy()
was, (payments, verdicts), cards = old.model("fraud"), old.sources, old.views[0]
schema = payments.schema
less = replace(schema, fields=tuple(f for f in schema.fields if f.name != "merchant"))
payments = replace(payments, event=type(schema.name, (), {"schema": less}))
cards = replace(cards, source=payments)
needs = replace(was.requirements, slices=())
label = replace(was.label, predicts=payments)
model = replace(was, features=(*cards.all(), "amount"), label=label, requirements=needs)
system = System(
    "toy", sources=(payments, verdicts), views=(cards,), models=(model,),
    deployments=(replace(old.deployments[0], model=model),),
)
del old
"""

BOTH = "usual, scaled,"


def declare(own: Commands, text: str, *, factor: int = 2, **parts: object) -> System:
    """Write `system.py` and its helper, and return what they declare."""
    sys.modules.pop("scaling", None)
    (own.folder / "scaling.py").write_text(HELPER.format(factor=factor))
    (own.folder / "system.py").write_text(text.format(**parts) if parts else text)
    return load_system(own.folder / "system.py")


def usual(own: Commands, *, features: str = "*rest,", added: int = 0, **given: object) -> System:
    return declare(own, DECLARED, added=added, features=features, **given)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[Commands], System]] = {
    "kept removed": lambda own: usual(own, kept=""),
    "one of two removed": lambda own: usual(own, kept="usual,"),
    "body of a kept function": lambda own: usual(own, kept=BOTH, added=1),
    "helper of a kept function": lambda own: usual(own, kept=BOTH, factor=30),
    "field gone": lambda own: declare(own, FIELD_GONE),
    "on-demand feature changed": lambda own: usual(
        own, features="*rest, scaled,", kept="usual,", added=1
    ),
}


@pytest.fixture
def kept(own: Commands) -> Commands:
    """Return a home whose challenger runs code that only `kept=` names."""
    usual(own, features="*rest, scaled,", kept="usual,")
    assert own("apply").status == 0
    assert own("train", "fraud").status == 0
    usual(own, kept=BOTH)
    assert own("apply").status == 0
    return own


def said(error: str) -> str:
    return error.removeprefix("error: ").strip()


def refused(own: Commands, system: System) -> str:
    with pytest.raises(HomeostatError) as found, App(system, own.folder / "state"):
        pass
    return str(found.value)


def test_what_apply_refuses_starts_nothing(kept: Commands) -> None:
    for name, change in KINDS.items():
        system = change(kept)
        no = kept("apply")
        assert no.status == 1, name
        words = said(no.err)
        assert refused(kept, system) == words, name
        for command in (("run", "--port", "0"), ("rollback", "fraud")):
            tried = kept(*command)
            assert (tried.status, said(tried.err)) == (1, words), (name, command)
        for looking in ("status", "journal", "doctor", "plan"):
            assert kept(looking).status in (0, 3), (name, looking)
        assert kept("plan").status == 3
        assert " loses " in kept("plan").out
        assert kept("sql", "select 1").status == 0
    usual(kept, kept=BOTH)  # brought back
    with App(load_system(kept.folder / "system.py"), kept.folder / "state"):
        pass
    system = usual(kept, kept="")  # or given up
    [command] = re.findall(r"`homeostat (apply [^`]+)`", refused(kept, system))
    assert kept(*command.split()).status == 0
    with App(system, kept.folder / "state"):
        pass


def test_a_damaged_package_opens(own: Commands) -> None:
    [stands] = own("status", "--json").json["models"]
    package = own.folder / "state" / "packages" / f"fraud@{stands['champion']}"
    (package / "model.onnx").write_bytes(b"no graph")
    declare(own, SYSTEM)
    with App(load_system(own.folder / "system.py"), own.folder / "state") as app:
        [answer] = app.predict("fraud", {"card": "card-1", "merchant": "kiosk", "amount": 9.0})
    assert answer.degraded
