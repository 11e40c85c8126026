"""Parameters of an estimator that a training sets itself, or that nothing reads.

A declared value that would be overridden or never looked at is no declaration: it is refused by its
name where declarations are checked, unless it is the value that is set. Names are compared by what
they stand for, so an alias is found, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from homeostat.declare.models import Model
from homeostat.train.parameters import EstimatorRefused, first_names, is_lightgbm

__all__ = ["SET", "overridden"]

SET: Mapping[str, object] = {
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""What every fit of LightGBM is given beside the seed and the threads: the same bits, and no lines.

Histograms by rows add up in one order on any number of threads.
"""

_ALLOWED: Mapping[str, tuple[object, str]] = {
    **{name: (value, "the training sets it, for the same bits on any machine")
       for name, value in SET.items()},
    "force_col_wise": (False, "the training sets force_row_wise"),
    "importance_type": ("gain", "importance is reported by gain"),
}  # fmt: skip

_OF_ITS_PROGRAM = frozenset({
    "config", "convert_model", "convert_model_language", "data", "group_column", "header",
    "ignore_column", "input_model", "label_column", "local_listen_port", "machine_list_filename",
    "machines", "num_iteration_predict", "num_machines", "output_model", "output_result",
    "parser_config_file", "pre_partition", "precise_float_parser", "pred_early_stop",
    "pred_early_stop_freq", "pred_early_stop_margin", "predict_contrib",
    "predict_disable_shape_check", "predict_leaf_index", "predict_raw_score", "save_binary",
    "snapshot_freq", "start_iteration_predict", "task", "time_out", "two_round", "valid",
    "weight_column",
})  # fmt: skip
"""What only LightGBM's own program reads: rows come from the lake, and a graph scores them."""


def overridden(
    kind: Callable[..., Any], model: Model, parameters: Mapping[str, object], where: str
) -> Iterator[EstimatorRefused]:
    """Yield the parameters whose declared values no training would use.

    Args:
        kind: the estimator's class, or a function that makes one.
        model: the declaration; its seed is set by every training.
        parameters: the declared ones.
        where: what the errors call the declaration.
    """
    if not is_lightgbm(kind):
        return  # scikit-learn's are all used; its random_state is held against the model's seed
    for name, first in first_names(parameters).items():
        given, told = parameters[name], f"{where}: {name}={parameters[name]!r}"
        if first == "seed" and (given != model.seed or type(given) is not int):
            yield EstimatorRefused(
                f"{told}, and Model.seed sets it; allowed: Model(..., seed={model.seed}) alone; "
                "leave it out, and write the seed there."
            )
        if model.estimator.package != "lightgbm":
            continue  # a class made from one of LightGBM's is fitted with all it is given
        if first == "num_threads":
            yield EstimatorRefused(
                f"{told}, and a training takes the threads that its machine has for it, with the "
                "same bits on any number; allowed: no declaration of threads; leave it out."
            )
        elif first in _ALLOWED and _unlike(given, _ALLOWED[first][0]):
            value, why = _ALLOWED[first]
            yield EstimatorRefused(f"{told}, and {why}; allowed: {value!r}; leave it out.")
        elif first in _OF_ITS_PROGRAM:
            yield EstimatorRefused(
                f"{told}, which only LightGBM's own program reads; allowed: what its Python "
                "package learns by; leave it out."
            )
        elif first == "early_stopping_round" and type(given) is not int:
            yield EstimatorRefused(
                f"{told}: {type(given).__name__}; allowed: a number of rounds, 0 for none; give "
                "one, or leave it out."
            )


def _unlike(given: object, value: object) -> bool:
    return type(given) is not type(value) or given != value
