"""Homeostat runs a whole machine-learning system in production.

Everything a `system.py` needs is here; heavy libraries are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.aggregations import (
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    share,
    standard_deviation,
    sum_,
    time_since_last,
    variance,
)
from homeostat.declare.deployments import BlueGreen, Canary, Degradation, Deployment, Guard, Shadow
from homeostat.declare.encodings import (
    Embedding,
    FrequencyEncoding,
    Hashing,
    OneHot,
    SentenceEmbedding,
    TargetEncoding,
    Tokens,
)
from homeostat.declare.expressions import col
from homeostat.declare.feeds import Folder, Query
from homeostat.declare.log_keep import LogKeep
from homeostat.declare.models import Estimator, Gate, Label, Model, Requirements, Split
from homeostat.declare.monitors import Drift, Freshness, Quality, Rejections, Retrain, Skew
from homeostat.declare.policies import Access, Erasure, Retention
from homeostat.declare.schema import Alias, Event, Personal, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.storage import Storage
from homeostat.declare.summaries import (
    custom,
    decayed_sum,
    distinct_count,
    last_n,
    quantile,
    top_share,
    top_values,
    trend,
)
from homeostat.declare.system import System
from homeostat.declare.transforms import Bins, Clip, Impute, Log, Scale
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand, on_demand

if TYPE_CHECKING:
    from homeostat.runtime.app import App, open
    from homeostat.runtime.warehouse import connect

__version__ = "0.1.0"

__all__ = [
    "Access",
    "Alias",
    "App",
    "Bins",
    "BlueGreen",
    "Canary",
    "Clip",
    "Degradation",
    "Deployment",
    "Drift",
    "Embedding",
    "Entity",
    "Erasure",
    "Estimator",
    "Event",
    "EventSource",
    "FeatureRef",
    "FeatureView",
    "Folder",
    "FrequencyEncoding",
    "Freshness",
    "Gate",
    "Guard",
    "Hashing",
    "HomeostatError",
    "Impute",
    "Label",
    "Log",
    "LogKeep",
    "Model",
    "OnDemand",
    "OneHot",
    "Personal",
    "Quality",
    "Query",
    "Rejections",
    "Requirements",
    "Retention",
    "Retrain",
    "Scale",
    "SentenceEmbedding",
    "Shadow",
    "Skew",
    "Split",
    "Storage",
    "System",
    "TargetEncoding",
    "Timestamp",
    "Tokens",
    "__version__",
    "col",
    "connect",
    "count",
    "custom",
    "decayed_sum",
    "distinct_count",
    "first",
    "last",
    "last_n",
    "maximum",
    "mean",
    "minimum",
    "on_demand",
    "open",
    "quantile",
    "share",
    "standard_deviation",
    "sum_",
    "time_since_last",
    "top_share",
    "top_values",
    "trend",
    "variance",
]


def __getattr__(name: str) -> Any:
    """Import the running part of the package on first use."""
    if name in ("App", "open"):
        from homeostat.runtime import app

        return getattr(app, name)
    if name == "connect":
        from homeostat.runtime import warehouse

        return warehouse.connect
    raise AttributeError(f"module 'homeostat' has no attribute {name!r}")
