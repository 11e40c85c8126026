"""What a request to a model must bring: all that any version that may answer it reads of it.

Champion, challenger and way back read what they were trained with, whatever is declared today. So a
field that only one of them reads is needed until it has left service, and what the model of today
reads is needed from the start that declares it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs

__all__ = ["Needs", "all_needs", "needs_of"]

Needs: TypeAlias = Mapping[str, bool]
"""By field that a request must have, whether it may be null."""


def needs_of(system: System, model: Model) -> Needs:
    """Return the request fields without which a model cannot be asked, in order of the event.

    Those that it and the keys of its views read; not the event id and the clocks, as an answer
    brings an id and the present instant.
    """
    source = model.label.predicts
    read = {need for need in model_inputs(model) if isinstance(need, str)}
    for view in system.views_of(model):
        read.update(view.entity.keys)
    read -= {source.event_id, source.event_time, source.known_time}
    return {field.name: field.nullable for field in source.schema.fields if field.name in read}


def all_needs(*given: Needs) -> Needs:
    """Return what several versions need together: null where all who need it take that.

    >>> all_needs({"amount": True, "card": False}, {"amount": False})
    {'amount': False, 'card': False}
    """
    found: dict[str, bool] = {}
    for needs in given:
        for name, nullable in needs.items():
            found[name] = nullable and found.get(name, True)
    return found
