"""Policies that are not carried out yet say so."""

from __future__ import annotations

from dataclasses import replace

import homeostat as hs
from homeostat.declare.lints import lints
from homeostat.testing.toy import toy_system


def test_a_declared_policy_that_nothing_carries_out_is_a_warning() -> None:
    system = toy_system()
    source = system.source("payments")
    kept = replace(system, policies=(hs.Retention(source, "400d"), hs.Access("analyst", (source,))))
    found = [lint for lint in lints(kept) if lint.rule == "not-enforced"]
    assert [lint.where for lint in found] == [
        "access policy of 'analyst'",
    ]
    assert "not-enforced" not in {lint.rule for lint in lints(system)}
