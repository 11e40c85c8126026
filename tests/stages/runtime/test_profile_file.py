"""The profile names what is outside; its mistakes are told where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.kafka import Topic
from homeostat.declare.storage import Storage
from homeostat.runtime.profile import (
    FILE,
    Profile,
    ProfileInvalid,
    load_log,
    load_profile,
    load_storage,
    read_profile,
)
from homeostat.testing.toy import toy_system

FULL = """
[kafka]
brokers = "one:9092,two:9092"
registry = "http://${REGISTRY_HOST}:8081"

[kafka.client]
"security.protocol" = "SASL_SSL"
"sasl.password" = "${SECRET}"

[kafka.sources.payments]

[kafka.sources.verdicts]
topic = "judged"
format = "confluent"
start = "latest"
key = "payment_id"
headers = {merchant = "shop"}
tombstones = "skip"
"""


def test_a_whole_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGISTRY_HOST", "registry")
    monkeypatch.setenv("SECRET", "hush")
    (tmp_path / FILE).write_text(FULL)
    kafka = load_profile(tmp_path / "system.py", toy_system()).kafka
    assert kafka is not None
    assert (kafka.brokers, kafka.group) == ("one:9092,two:9092", "homeostat-toy")
    assert kafka.registry == "http://registry:8081"
    assert kafka.client == {"security.protocol": "SASL_SSL", "sasl.password": "hush"}
    assert kafka.of("payments") == Topic(source="payments", topic="payments")
    assert kafka.of("verdicts") == Topic(
        source="verdicts",
        topic="judged",
        format="confluent",
        start="latest",
        key="payment_id",
        headers={"merchant": "shop"},
        tombstones="skip",
    )
    assert kafka.of("nothing") is None


def test_no_profile_uses_nothing(tmp_path: Path) -> None:
    assert load_profile(tmp_path / "system.py", toy_system()) == Profile()
    assert read_profile("", toy_system()) == Profile()


BROKERS = '[kafka]\nbrokers = "b:9092"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka", "TOML"),
        ("[kafak]", "no section named 'kafak'. Did you mean 'kafka'?"),
        ("kafka = 3", "3; allowed: a table of settings"),
        ('[kafka]\nbroker = "b"', "no setting named 'broker'. Did you mean 'brokers'?"),
        ("[kafka]", "no brokers"),
        (BROKERS + "[kafka.sources.payment]", "no source named 'payment'"),
        (BROKERS + "[kafka.sources.payments]\nfromat = 'json'", "Did you mean 'format'?"),
        (BROKERS + "[kafka.sources.payments]\nformat = 'jsn'", "Did you mean 'json'?"),
        (BROKERS + "[kafka.sources.payments]\nstart = 'last'", "earliest, latest"),
        (BROKERS + "[kafka.sources.payments]\nkey = 'crad'", "no field named 'crad'"),
        (BROKERS + "[kafka.sources.payments]\nheaders = {crad = 'x'}", "no field named 'crad'"),
        (BROKERS + "[kafka.sources.payments]\nformat = 'confluent'", "there is no registry"),
        ('[kafka]\nbrokers = "${NOT_THERE_AT_ALL}"', "export NOT_THERE_AT_ALL"),
        (BROKERS + "log = 'a/b'", "log='a/b'; allowed: letters, digits"),
        (BROKERS + "log = 3", "log=3; allowed: letters, digits"),
        (
            BROKERS + "log = 'shop'\n[kafka.sources.payments]\ntopic = 'shop-paid'",
            "events come from topic shop-paid, which begins like that",
        ),
        (BROKERS + "log = 'shop'\n[log]\nkeep = '7d'", "drop keep and keep_bytes"),
    ],
)
def test_mistakes_are_told_where_they_stand(text: str, said: str) -> None:
    with pytest.raises(HomeostatError) as raised:
        read_profile(text, toy_system())
    assert said in str(raised.value)


LAKE = """
[lake]
location = "s3://${BUCKET}/shop"
cold = "/mnt/archive"
currency = "EUR"
prices = {hot = 0.1, cold = 0}
"""


def test_a_profile_says_where_the_lake_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "lake")
    storage = read_profile(LAKE, toy_system()).storage
    prices = {"hot": 0.1, "cold": 0}
    assert storage == Storage(
        location="s3://lake/shop", cold="/mnt/archive", currency="EUR", prices=prices
    )
    assert read_profile("", toy_system()).storage == Storage()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lake]\nplace = 'a'", "no setting named 'place'"),
        ("[lake]\ncold = 3", "cold = 3; allowed: a text"),
        ("[lake]\nlocation = 'a'\ncold = 'a'", "where the hot days are"),
        ("[lake.prices]\nwarm = 1", "'warm'; allowed: hot, cold"),
        ("[lake.prices]\nhot = -1", "hot = -1; allowed: what a GB costs in a month"),
        ("[lake.prices]\nhot = 'much'", "hot = 'much'"),
        ("[lake]\nprices = 3", "3; allowed: a table of settings"),
    ],
)
def test_mistakes_about_the_lake(text: str, told: str) -> None:
    with pytest.raises(HomeostatError) as mistake:
        read_profile(text, toy_system())
    assert told in str(mistake.value)


def test_the_lake_is_found_without_the_secrets_of_the_rest(tmp_path: Path) -> None:
    text = '[lake]\nlocation = "s3://lake/shop"\ncold = "archive"\n'
    (tmp_path / FILE).write_text(text + '[kafka]\nbrokers = "${NOT_SET_ANYWHERE}"\n')
    expected = Storage(location="s3://lake/shop", cold=str(tmp_path / "archive"))
    assert load_storage(tmp_path / "system.py") == expected
    assert load_storage(tmp_path / "elsewhere" / "system.py") == Storage()
    with pytest.raises(ProfileInvalid, match="NOT_SET_ANYWHERE"):
        load_profile(tmp_path / "system.py", toy_system())
    (tmp_path / FILE).write_text(text)
    assert load_profile(tmp_path / "system.py", toy_system()).storage == expected
    (tmp_path / FILE).write_text("[lake]\ncold = '${NOT_SET_ANYWHERE}'")
    with pytest.raises(ProfileInvalid, match="NOT_SET_ANYWHERE"):
        load_storage(tmp_path / "system.py")
    (tmp_path / FILE).write_text(text.replace("[lake]", "[lak]"))
    with pytest.raises(UnknownName, match=r"no section named 'lak'\. Did you mean 'lake'"):
        load_storage(tmp_path / "system.py")


def test_the_cluster_of_the_log_is_asked_for_where_the_log_is_in_it(tmp_path: Path) -> None:
    file, system = tmp_path / "system.py", toy_system()
    assert load_log(file, system) is None
    text = '[kafka]\nbrokers = "one:9092"\n[kafka.client]\n"sasl.password" = "${NOT_SET_AT_ALL}"\n'
    (tmp_path / FILE).write_text(text)
    assert load_log(file, system) is None, "a source's password is not needed"
    text = text.replace("[kafka.client]", 'log = "kept"\n[kafka.client]')
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ProfileInvalid, match="NOT_SET_AT_ALL"):
        load_log(file, system)
    (tmp_path / FILE).write_text(text.replace("${NOT_SET_AT_ALL}", "x") + "[lake]\ncold = '${NO}'")
    found = load_log(file, system)
    assert found is not None
    assert (found.log, found.brokers, found.client) == ("kept", "one:9092", {"sasl.password": "x"})
