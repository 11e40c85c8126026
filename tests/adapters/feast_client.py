"""Asks a feature server as a user of Feast does; run by test_feast.py under Feast's interpreter.

The present folder is a repository that was applied. The questions come on stdin, as JSON; what was
answered goes to stdout, and what the past was to past.parquet and latest.parquet.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import pandas as pd
import requests
from feast import FeatureStore, FeatureView, Field
from feast.feature_server import OnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64


def live(store: Any, features: list[str], entities: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the answers of get_online_features in every form."""
    rows = [dict(zip(entities, row, strict=True)) for row in zip(*entities.values(), strict=True)]
    answer = store.get_online_features(features, rows)
    service = store.get_online_features(store.get_feature_service("fraud"), rows)
    return {
        "online": answer.to_dict(),
        "statuses": {
            name: list(vector.statuses)
            for name, vector in zip(
                answer.proto.metadata.feature_names.val, answer.proto.results, strict=True
            )
        },
        "full": list(store.get_online_features(features, rows, full_feature_names=True).to_dict()),
        "service": service.to_dict(),
    }


def is_feasts_own_form(store: Any, features: list[str], entities: dict[str, list[Any]]) -> bool:
    """Whether the model of Feast's own server takes the answer and adds or loses nothing."""
    address = store.config.online_store.path + "/get-online-features"
    plain = requests.post(address, json={"features": features, "entities": entities}).json()
    kept = OnlineFeaturesResponse.model_validate(plain).model_dump()
    kept["metadata"].pop("feature_view_metadata")  # its default, where none was asked for
    return bool(kept == plain)


def refused(store: Any, wrong: list[tuple[str, Any, Any]]) -> dict[str, tuple[str, str]]:
    """Return what is raised for wrong questions, and for a write."""
    row = pd.DataFrame(
        {
            "shop": [1],
            "count_1d": [1],
            "count_30d": [1],
            "event_timestamp": [pd.Timestamp.now("UTC")],
        }
    )
    asking = store.get_online_features
    calls = {name: partial(asking, features, entities) for name, features, entities in wrong}
    calls["write"] = partial(store.write_to_online_store, "shops", row)
    calls["materialize"] = partial(store.materialize_incremental, pd.Timestamp.now("UTC"))
    raised = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:  # noqa: BLE001 - which one it is, is the question
            raised[name] = type(error).__name__, str(error)
    return raised


def typed(store: Any, card: str) -> tuple[str, tuple[int, float]]:
    """Return the instant and the values of a read of the online store itself, by declared type."""
    key = EntityKey(join_keys=["card"], entity_values=[Value(string_val=card)])
    view, names = store.get_feature_view("cards"), ["count_1d", "amount_last_7d"]
    ((at, values),) = store._get_provider().online_read(store.config, view, [key], names)
    return at.isoformat(), (values["count_1d"].int64_val, values["amount_last_7d"].double_val)


def past(store: Any, features: list[str]) -> None:
    """Write historical features, and the latest amounts of a view over the lake's events."""
    spine = pd.read_parquet("spine.parquet")
    found = store.get_historical_features(spine, features, full_feature_names=True)
    found.to_df().to_parquet("past.parquet")
    latest = FeatureView(
        name="latest",
        entities=[store.get_entity("card")],
        schema=[Field(name="amount", dtype=Float64)],
        source=store.get_data_source("events_sales"),
    )
    store.apply([latest])
    spine = spine[["card", "event_timestamp", "i"]]
    store.get_historical_features(spine, ["latest:amount"]).to_df().to_parquet("latest.parquet")


if __name__ == "__main__":
    given = json.load(sys.stdin)
    opened = FeatureStore(repo_path=".")
    features, entities = given["features"], given["entities"]
    answers = live(opened, features, entities)
    answers["is_feasts_own_form"] = is_feasts_own_form(opened, features, entities)
    answers["refused"] = refused(opened, given["wrong"])
    answers["typed"] = typed(opened, entities["card"][0])
    past(opened, given["past"])
    print(json.dumps(answers))  # noqa: T201 - the answer
