"""Feast reads our features: the protocol by itself, and the real feast in its own environment.

The environment (about a minute, made once in build/venvs) has its own versions of everything.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat import count, last, mean
from homeostat.adapters.feast_repository import FeastRepositoryTaken, history, write_repository
from homeostat.adapters.feast_server import FeastRefused, FeastServer
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.runtime.app import App
from homeostat.serve.http import Application, Mount
from homeostat.serve.server import serving
from homeostat.serve.wire import Reply
from homeostat.testing.drills import BrokenStore
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.oracle import feature_values

NOON = datetime(2024, 5, 20, 12, tzinfo=UTC)
ASK = "/get-online-features"
CARDS = ["cards:count_1d", "cards:amount_mean_1d", "cards:amount_last_7d"]


class Sale(hs.Event):
    """A card pays in a shop."""

    sale_id: str
    card: Annotated[str, hs.Personal]
    holder: Annotated[str, hs.Personal]
    shop: int
    amount: float
    online: bool
    at: hs.Timestamp


class Refund(hs.Event):
    """A shop pays back."""

    sale_id: str
    shop: int
    at: hs.Timestamp


def system() -> hs.System:
    """Return views with a text key, a whole-number key, and two keys, and a model over them."""
    sales = hs.EventSource("sales", Sale, event_id="sale_id", event_time="at")
    refunds = hs.EventSource("refunds", Refund, event_id="sale_id", event_time="at")
    windows = (count().over("1d"), mean("amount").over("1d"), last("amount").over("7d"))
    cards = hs.FeatureView("cards", hs.Entity("card", key="card"), sales, windows)
    shops = hs.FeatureView(
        "shops", hs.Entity("shop", key="shop"), refunds, (count().over("1d", "30d"),)
    )
    pairs = hs.FeatureView(
        "pairs",
        hs.Entity("pair", key=("card", "shop", "online")),
        sales,
        (count().over("1d"), mean("amount").over("30d")),
    )
    model = hs.Model(
        "fraud",
        features=(*cards.all(), pairs["amount_mean_30d"], "amount"),
        label=hs.Label(
            "refunded", predicts=sales, outcome=refunds, join_on="sale_id",
            value=hs.col("shop") > 0, delay="2d", when_absent=False,
        ),
        estimator=hs.Estimator("lightgbm:LGBMClassifier"),
        split=hs.Split(validation="7d", test="7d"),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=1),
    )  # fmt: skip
    return hs.System(
        "paying", sources=(sales, refunds), views=(cards, shops, pairs), models=(model,)
    )


def events(n: int = 400) -> dict[str, pl.DataFrame]:
    draw = np.random.default_rng(5)
    at = [NOON - timedelta(seconds=float(s)) for s in np.sort(draw.uniform(0, 9 * 86_400, n))[::-1]]
    sales = pl.DataFrame(
        {
            "sale_id": [f"s{i}" for i in range(n)],
            "card": [f"card-{c}" for c in draw.integers(0, 30, n)],
            "holder": [f"person {i}" for i in range(n)],
            "shop": draw.integers(0, 4, n),
            "amount": draw.lognormal(3, 1, n).round(2),
            "online": draw.random(n) < 0.5,
            "at": at,
            "known_at": at,
        }
    )
    refunds = sales[::7].select("sale_id", "shop", "at", "known_at")
    return {"sales": sales, "refunds": refunds}


@dataclass
class Paying:
    """A home with events until noon, the application in front of it, and its address."""

    app: App
    application: Application
    address: str

    def ask(self, **body: Any) -> httpx.Response:
        return httpx.post(self.address + ASK, json=body, timeout=30)


def application(app: App) -> Application:
    made = Application(app.system, app.live.service, app.live.metrics, app.live.route)
    for mount in FeastServer(app.system, app.home.store, app.clock).mounts():
        made.mount(mount)
    return made


@contextmanager
def living(folder: Path) -> Iterator[App]:
    with hs.open(system(), folder, clock=ManualClock(to_micros(NOON))) as app:
        for source, frame in events().items():
            for half in (frame[: frame.height // 2], frame[frame.height // 2 :]):
                app.ingest(source, half, known_time="known_at")
                app.live.flush()
        yield app


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paying]:
    with living(tmp_path_factory.mktemp("paying")) as app:
        made = application(app)
        with serving(made) as address:
            yield Paying(app, made, address)


def entities(paying: Paying) -> dict[str, list[Any]]:
    """Return every card with a shop, and some that nobody has seen."""
    sales = events()["sales"].unique("card", maintain_order=True)
    return {
        "card": [*sales["card"].to_list(), "nobody", "card-1"],
        "shop": [*sales["shop"].to_list(), 1, 99],
        "online": [*sales["online"].to_list(), True, False],
    }


def table(response: httpx.Response) -> dict[str, list[Any]]:
    body = response.json()
    names = body["metadata"]["feature_names"]
    return {n: r["values"] for n, r in zip(names, body["results"], strict=True)}


def test_values_are_those_of_a_live_read_in_the_order_of_the_question(paying: Paying) -> None:
    asked = entities(paying)
    refs = [*CARDS, "pairs:amount_mean_30d", "shops:count_30d"]
    found = table(paying.ask(features=refs, entities=asked))
    assert list(found) == ["card", "shop", "online", *(ref.partition(":")[2] for ref in refs)]
    for view in ("cards", "shops", "pairs"):
        keys = {k: asked[k] for k in paying.app.system.view(view).entity.keys}
        live = paying.app.read(view, keys)
        for ref in refs:
            if ref.startswith(f"{view}:"):
                name = ref.partition(":")[2]
                assert found[name] == live[name].fill_nan(None).to_list(), ref
    assert any(v is None for v in found["amount_mean_1d"])
    assert any(v for v in found["amount_mean_1d"])


def test_counts_are_whole_numbers_in_json_and_the_others_are_not(paying: Paying) -> None:
    found = table(paying.ask(features=CARDS, entities=entities(paying)))
    assert {type(value) for value in found["count_1d"]} == {int}
    assert {type(v) for v in found["amount_last_7d"]} <= {float, type(None)}


def test_statuses_tell_an_empty_window_from_an_unknown_entity(paying: Paying) -> None:
    live = paying.app.read("cards", {"card": entities(paying)["card"]})
    quiet = live.filter(pl.col("amount_mean_1d").is_nan() & pl.col("amount_last_7d").is_not_nan())
    asked = [quiet["card"][0], "nobody", None]
    body = paying.ask(features=CARDS, entities={"card": asked}).json()
    keys, counted, means, lasts = body["results"]
    assert keys["statuses"] == ["PRESENT"] * 3
    assert (counted["values"], counted["statuses"]) == ([0, 0, 0], ["PRESENT"] * 3)
    assert means["statuses"] == ["NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]
    assert lasts["statuses"] == ["PRESENT", "NOT_FOUND", "NOT_FOUND"]
    never = "1970-01-01T00:00:00Z"
    assert means["event_timestamps"] == ["2024-05-20T12:00:00Z", never, never]
    assert body["status"] is True


def test_a_model_is_a_feature_service(paying: Paying) -> None:
    found = table(
        paying.ask(feature_service="fraud", entities=entities(paying), full_feature_names=True)
    )
    assert list(found) == [
        "card", "shop", "online", "cards__count_1d", "cards__amount_mean_1d",
        "cards__amount_last_7d", "pairs__amount_mean_30d",
    ]  # fmt: skip


def test_feature_views_are_named_where_asked_for(paying: Paying) -> None:
    body = {"features": CARDS, "entities": {"card": ["card-1"]}}
    assert "feature_view_metadata" not in paying.ask(**body).json()["metadata"]
    told = paying.ask(**body, include_feature_view_version_metadata=True).json()["metadata"]
    assert told["feature_view_metadata"] == [{"name": "cards"}]


ONE = {"card": ["card-1"]}
ANY = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"features": ["card:x"], "entities": ONE}, 404, "FeatureViewNotFoundException",
         ["no feature view named 'card'", "Did you mean 'cards'?"]),
        ({"features": ["cards:count_1h"], "entities": ONE}, 422, "FeastError",
         ["view 'cards': no feature named 'count_1h'", "Did you mean 'count_1d'?"]),
        ({"features": ["cards"], "entities": ONE}, 422, "FeastError",
         ["features: 'cards'", "'view:feature'"]),
        ({"features": [], "entities": ONE}, 422, "FeastError", ["features: none"]),
        ({"feature_service": "frod", "entities": ONE}, 404, "FeatureServiceNotFoundException",
         ["feature_service", "Did you mean 'fraud'?"]),
        ({"features": ["cards:count_1d", "pairs:count_1d"],
          "entities": {**ONE, "shop": [1], "online": [True]}}, 422, "FeatureNameCollisionError",
         ["'count_1d'", "full_feature_names"]),
        ({"features": ["pairs:count_1d"], "entities": ONE}, 422, "FeastError",
         ["'shop', 'online' missing, found card"]),
        ({"features": ["pairs:count_1d"], "entities": {"card": ["a"], "shop": [1, 2],
                                                       "online": [True]}}, 422, "FeastError",
         ["card has 1", "shop has 2"]),
        ({"features": CARDS, "entities": {"card": [7]}}, 422, "FeastError",
         ["key 'card'", "7 is a int", "a string"]),
        ({"features": ["shops:count_1d"], "entities": {"shop": ["7"]}}, 422, "FeastError",
         ["key 'shop'", "a integer"]),
        ({"features": ["shops:count_1d"], "entities": {"shop": [True]}}, 422, "FeastError",
         ["key 'shop'", "a bool"]),
        ({"features": CARDS, "entities": {"card": "card-1"}}, 422, "FeastError",
         ["entities", "array"]),
        ({"features": "cards:count_1d", "entities": ONE}, 422, "FeastError", ["$.features"]),
        ({"features": CARDS}, 422, "FeastError", ["`entities`"]),
        ([], 422, "FeastError", ["object"]),
        (b"{", 400, "FeastError", ["body"]),
        (b"\xff", 400, "FeastError", ["body"]),
    ],
)  # fmt: skip
def test_a_wrong_question_is_told_what_is_wrong(
    paying: Paying, body: Any, status: int, kind: str, words: list[str]
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(paying.address + ASK, content=content, timeout=30)
    told = json.loads(response.json())  # a text of JSON in JSON, as Feast sends it
    assert (response.status_code, told["module"], told["class"]) == (status, "feast.errors", kind)
    assert [word for word in words if word not in told["message"]] == [], told["message"]


KEYS = st.lists(st.sampled_from(["card-1", "ü", None, 7])) | st.lists(ANY, max_size=3)
QUESTIONS = st.one_of(
    st.binary(max_size=30),
    st.fixed_dictionaries(
        {"entities": st.dictionaries(st.sampled_from(["card", "shop", "x"]), KEYS, max_size=3)},
        optional={
            "features": st.lists(st.sampled_from([*CARDS, "shops:count_1d", "x", ":"]), max_size=3),
            "feature_service": st.sampled_from(["fraud", "x", None, 1]),
            "full_feature_names": ANY,
            "colour": ANY,
        },
    ).map(lambda body: json.dumps(body).encode()),
)


@given(QUESTIONS)
def test_whatever_is_asked_is_answered_in_full_or_refused(body: bytes) -> None:
    server = FeastServer(system(), MemoryStore(), ManualClock(0))
    try:
        reply = server.online_features(body)
    except FeastRefused as refused:
        reply = refused.reply()
    assert reply.status in (200, 400, 404, 422)
    if reply.status != 200:
        return
    found = json.loads(reply.body)
    lengths = {len(result["values"]) for result in found["results"]}
    lengths |= {len(result["statuses"]) for result in found["results"]}
    assert len(lengths) == 1
    assert len(found["results"]) == len(found["metadata"]["feature_names"])


def test_a_question_about_nobody_has_empty_lists(paying: Paying) -> None:
    found = table(paying.ask(features=CARDS, entities={"card": []}))
    assert list(found.values()) == [[], [], [], []]


def test_writes_are_refused_and_say_where_values_come_from(paying: Paying) -> None:
    for path in ("/write-to-online-store", "/materialize", "/materialize-incremental"):
        response = httpx.post(paying.address + path, json={}, timeout=30)
        assert (response.status_code, "/events/{source}" in response.text) == (403, True)


def test_other_entities_in_the_question_are_left_alone(paying: Paying) -> None:
    asked = {**ONE, "colour": ["red", "blue"]}
    assert list(table(paying.ask(features=CARDS[:1], entities=asked))) == ["card", "count_1d"]


def test_one_question_is_one_snapshot(paying: Paying) -> None:
    class Counted(MemoryStore):
        opened = 0

        @contextmanager
        def reader(self) -> Iterator[Any]:
            self.opened += 1
            with super().reader() as reader:
                yield reader

    store = Counted()
    server = FeastServer(system(), store, ManualClock(0))
    asked = {"features": ["cards:count_1d", "shops:count_30d"], "entities": entities(paying)}
    server.online_features(json.dumps(asked).encode())
    assert store.opened == 1


def test_a_broken_store_is_a_503_and_counted(paying: Paying) -> None:
    app = Application(system(), paying.app.live.service, paying.app.live.metrics)
    for mount in FeastServer(system(), BrokenStore(opens=True), ManualClock(0)).mounts():
        app.mount(mount)
    with serving(app) as address:
        response = httpx.post(address + ASK, json={"features": CARDS, "entities": ONE}, timeout=30)
    assert response.status_code == 503
    assert "http" in paying.app.live.metrics.last_faults


def test_the_paths_are_counted_described_and_taken_once(paying: Paying) -> None:
    paying.ask(features=CARDS, entities=ONE)
    metrics = httpx.get(paying.address + "/metrics", timeout=30).text
    assert 'homeostat_requests_total{path="/get-online-features",status="200"}' in metrics
    paths = httpx.get(paying.address + "/openapi.json", timeout=30).json()["paths"]
    assert set(paths[ASK]) == {"post"}
    assert httpx.get(paying.address + ASK, timeout=30).status_code == 405
    for path in (ASK, "/models", "/a/b", "/"):
        with pytest.raises(HomeostatError, match="choose another"):
            paying.application.mount(Mount(path, "", lambda body: Reply.of({})))


def test_history_holds_what_was_known_just_before_each_event(paying: Paying) -> None:
    for name in ("cards", "pairs"):
        view = paying.app.system.view(name)
        kept = paying.app.home.lake.read("sales")
        found = history(view, kept)
        rows = kept.to_dicts()
        assert found.height == kept.height
        for row in found[::29].iter_rows(named=True):
            key = tuple(row[part] for part in view.entity.keys)
            at = to_micros(row["event_timestamp"])
            expected = feature_values(view, rows, key, at)
            got = [row[spec.name] for spec in view.features()]
            assert got == [None if v != v else v for v in expected], row


def test_personal_fields_stay_at_home_and_other_peoples_folders_too(
    paying: Paying, tmp_path: Path
) -> None:
    write_repository(system(), tmp_path, paying.app.home.lake.read, "http://127.0.0.1:8000/")
    write_repository(system(), tmp_path, paying.app.home.lake.read, "http://127.0.0.1:9000/")
    settings = tmp_path / "feature_store.yaml"
    assert "path: http://127.0.0.1:9000\n" in settings.read_text()
    sales = pl.read_parquet(tmp_path / "data" / "events" / "sales.parquet")
    assert "holder" not in sales.columns
    assert {"card", "amount", "_event_time", "_known_time"} <= set(sales.columns)
    settings.write_text("project: mine\n")
    with pytest.raises(FeastRepositoryTaken, match="name another"):
        write_repository(system(), tmp_path, paying.app.home.lake.read, "http://127.0.0.1:8000")
    assert settings.read_text() == "project: mine\n"


# --- the real feast -----------------------------------------------------------------------------

CLIENT = Path(__file__).with_name("feast_client.py")


@dataclass
class Repository:
    """A repository that was exported, applied and asked by the real feast."""

    folder: Path
    found: dict[str, Any]
    spine: pl.DataFrame


def feast(python: Path, folder: Path, *words: str, given: object = None) -> str:
    """Run the interpreter that has feast in a folder; return what it prints."""
    done = subprocess.run(
        [str(python), *words],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(
    paying: Paying, tmp_path_factory: pytest.TempPathFactory, environment: Callable[[str], Path]
) -> Repository:
    """Return what the real feast made of an export, with the server in this process."""
    python = environment("feast")
    folder = tmp_path_factory.mktemp("feast")
    app = paying.app
    app.home.lake.compact("sales")
    write_repository(app.system, folder, app.home.lake.read, paying.address)
    feast(python, folder, "-c", "from feast.cli.cli import cli; cli()", "apply")
    past = history(app.system.view("pairs"), app.home.lake.read("sales"))
    spine = past.select("card", "shop", "online", "event_timestamp").sample(60, seed=3)
    between = pl.col("event_timestamp").dt.offset_by("2us")
    spine = pl.concat([spine, spine[:1].with_columns(between)]).with_row_index("i")
    spine.write_parquet(folder / "spine.parquet")
    one = [{"card": "card-1", "shop": 1, "online": True}]
    given = {
        "features": [*CARDS, "pairs:amount_mean_30d", "shops:count_30d"],
        "entities": entities(paying),
        "past": ["cards:count_1d", "cards:amount_mean_1d", "pairs:amount_mean_30d"],
        "wrong": [
            ("view", ["card:count_1d"], one),
            ("feature", ["cards:count_1h"], one),
            ("key", ["cards:count_1d"], [{"shop": 1}]),
            ("kind", ["cards:count_1d"], [{"card": 7}]),
            ("twice", ["cards:count_1d", "shops:count_1d"], one),
        ],
    }
    found = json.loads(feast(python, folder, str(CLIENT), given=given).splitlines()[-1])
    return Repository(folder, found, spine)


def test_feasts_client_reads_our_live_features(paying: Paying, repository: Repository) -> None:
    asked = entities(paying)
    refs = [*CARDS, "pairs:amount_mean_30d", "shops:count_30d"]
    plain = table(paying.ask(features=refs, entities=asked))
    assert repository.found["online"] == plain
    live = paying.app.read("cards", {"card": asked["card"]})
    assert repository.found["online"]["amount_mean_1d"] == (
        live["amount_mean_1d"].fill_nan(None).to_list()
    )
    names = ("card", "amount_mean_1d")
    told = [s for name in names for s in set(repository.found["statuses"][name])]
    assert sorted(told) == [1, 1, 2, 3]  # present; present, null value, not found
    assert repository.found["is_feasts_own_form"] is True
    assert repository.found["full"][3:] == [ref.replace(":", "__") for ref in refs]
    assert list(repository.found["service"]) == [
        "card", "shop", "online", "count_1d", "amount_mean_1d", "amount_last_7d", "amount_mean_30d",
    ]  # fmt: skip


def test_feasts_client_tells_our_refusals_as_its_own_errors(repository: Repository) -> None:
    refused = repository.found["refused"]
    expected = {
        "view": ("FeatureViewNotFoundException", "Did you mean 'cards'?"),
        "feature": ("FeastError", "no feature named 'count_1h'"),
        "key": ("FeastError", "'card' missing, found shop"),
        "kind": ("FeastError", "key 'card'"),
        "twice": ("FeatureNameCollisionError", "'count_1d'"),
        "write": ("FeastError", "/events/{source}"),
        "materialize": ("RuntimeError", "/events/{source}"),
    }
    assert {name: kind for name, (kind, _) in refused.items()} == {
        name: kind for name, (kind, _) in expected.items()
    }
    assert [n for n, (_, words) in expected.items() if words not in refused[n][1]] == [], refused


def test_a_typed_read_gets_int64_and_float64(paying: Paying, repository: Repository) -> None:
    live = paying.app.read("cards", {"card": entities(paying)["card"][:1]}).row(0, named=True)
    at, values = repository.found["typed"]
    assert datetime.fromisoformat(at) == NOON
    assert values == [live["count_1d"], live["amount_last_7d"]]


def test_feasts_history_is_our_point_in_time(paying: Paying, repository: Repository) -> None:
    past = pl.read_parquet(repository.folder / "past.parquet").sort("i")
    spine = repository.spine[:-1].rename({"event_timestamp": "at"})
    stale = past.filter(pl.col("i") == len(spine)).select("^(cards|pairs)__.*$")
    past = past.filter(pl.col("i") < len(spine))
    assert stale.null_count().sum_horizontal().sum() == stale.width * stale.height
    ours = paying.app.features(["cards"], spine.select("card", "at"))
    for name in ("count_1d", "amount_mean_1d"):
        theirs = past[f"cards__{name}"].cast(pl.Float64).fill_nan(None).to_list()
        assert theirs == ours[f"cards__{name}"].fill_nan(None).to_list()
    assert past["pairs__amount_mean_30d"].is_not_null().any()


def test_lake_tables_are_a_file_source_without_what_the_table_left_behind(
    paying: Paying, repository: Repository
) -> None:
    kept = paying.app.home.lake.read("sales")
    folder = paying.app.home.folder / "lake" / "sales"
    assert pl.read_parquet(folder / "**" / "*.parquet").height > kept.height  # read whole, it lies
    exported = pl.read_parquet(repository.folder / "data" / "events" / "sales.parquet")
    assert exported["sale_id"].sort().equals(kept["sale_id"].sort())
    latest = pl.read_parquet(repository.folder / "latest.parquet").sort("i")
    expected = repository.spine.sort("event_timestamp").join_asof(
        kept.sort("_event_time"), left_on="event_timestamp", right_on="_event_time", by="card"
    )
    assert latest["amount"].to_list() == expected.sort("i")["amount"].to_list()
