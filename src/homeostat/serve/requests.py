"""Reads request bodies: a fast typed decode, and a slow one that says what is wrong where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from homeostat.core.errors import HomeostatError, did_you_mean
from homeostat.declare.models import Model
from homeostat.declare.schema import EventSchema, Field
from homeostat.declare.system import System
from homeostat.ingest.value_forms import is_finer, restated
from homeostat.serve.former_fields import FormerFields
from homeostat.serve.needs import Needs, needs_of

__all__ = [
    "LIMIT",
    "Problem",
    "RequestInvalid",
    "RequestMalformed",
    "RequestReader",
]

Row: TypeAlias = dict[str, Any]

_WORDS = {
    "string": "text",
    "integer": "a whole number of 64 bits",
    "float": "a finite number",
    "boolean": "true or false",
    "timestamp": "an instant with a time zone, such as '2013-07-01T18:30:00Z', "
    "of the years 2 to 9998",
}
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "float": float,
    "boolean": bool,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
}
_EARLIEST, _LATEST = 2, 9998  # years: every time zone of theirs is a UTC instant too
_SHOWN = 60

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct(
        "RawRequests", [("requests", list[dict[str, msgspec.Raw]])], forbid_unknown_fields=True
    )
)

LIMIT = 1000
"""A body holds so many requests at most."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request: where, what was found, what is allowed."""

    field: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; allowed: {self.allowed}"


class RequestMalformed(HomeostatError, ValueError):
    """A body that is no JSON."""


class RequestInvalid(HomeostatError, ValueError):
    """Requests that do not have the declared fields; `problems` names every one."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{where}: " + "; ".join(map(str, self.problems)) + ".")


class RequestReader:
    """Reads the requests of one model: an object, or {"requests": [...]}.

    Needed are the fields that the champion, or the keys of its views, read, unless the event has a
    default for them; the event id and the clocks may be absent, as the answer brings an id and the
    present instant. Other fields of the event may be given. Names that earlier declarations had are
    read as events are: an alias as its field, and what is gone is left out; names that nobody ever
    declared are refused. A field that a request does not have is not in its row.

    Args:
        system: the declarations.
        model: the model that is asked.
        needs: what a request must bring now; None for what the model of today needs.
        former: the names that earlier declarations had; None for the aliases alone.
        limit: the most requests in one body.
    """

    def __init__(
        self,
        system: System,
        model: Model,
        needs: Callable[[], Needs] | None = None,
        former: FormerFields | None = None,
        *,
        limit: int = LIMIT,
    ) -> None:
        source = model.label.predicts
        self.schema: EventSchema = source.schema
        self.where, self.limit = f"request to {model.name!r}", limit
        self.clocks = tuple(c for c in (source.event_time, source.known_time) if c is not None)
        self._today, self._needs = needs_of(system, model), needs
        self._former = FormerFields(source.schema) if former is None else former
        self._forms: dict[frozenset[tuple[str, bool]], _Form] = {}
        self._instants = [f.name for f in self.schema.fields if f.kind == "timestamp"]
        kept = msgspec.defstruct(
            f"{self.schema.name}Logged",
            [(f.name, _TYPES[f.kind] | None | UnsetType, UNSET) for f in self.schema.fields],
            kw_only=True,
        )
        self._logged: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kept)

    def _form(self) -> _Form:
        """Return the decoders for what is needed now; versions come into service and leave it."""
        needs = self._today if self._needs is None else self._needs()
        key = frozenset(needs.items())
        if key not in self._forms:
            self._forms[key] = _Form.of(self.schema, needs, self.limit)
        return self._forms[key]

    def read(self, body: bytes) -> tuple[list[Row], bool]:
        """Return the requests, and whether they came as a list.

        Raises:
            RequestMalformed: the body is no JSON.
            RequestInvalid: it has other fields than declared, or one of them twice.
        """
        form = self._form()
        try:
            is_list = b'"requests"' in body and not self.schema.has("requests")
            rows = [self._row(row) for row in self._decoded(body, form, is_list)]
            if _may_repeat(body, rows, is_list):
                self._refuse_twice(body, is_list)
            self._former.passed(len(rows))
            return rows, is_list
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as refused:
            older = self._of_former_names(body, form, is_list)
            if older is not None:
                self._refuse_twice(body, is_list)
                return older, is_list
            rows, is_list = self._explain(body, form.needs)
            self._refuse_twice(body, is_list)
            reason = str(refused)
        # The slow reader found nothing wrong, as in {"carrier": "requests"}: read row by row.
        try:
            return self._present(rows, form), is_list
        except (msgspec.DecodeError, OverflowError):
            problem = Problem("body", reason, "the declared fields")
            raise RequestInvalid(self.where, [problem]) from None

    def rows(self, requests: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Return requests of a caller in Python, which may be any number.

        Raises:
            RequestInvalid: they have other fields than declared; each is named by its place.
        """
        rows: list[Row] = []
        problems: list[Problem] = []
        form = self._form()
        for place, request in enumerate(requests):
            try:
                rows += self._present([request], form)
            except (TypeError, ValueError, OverflowError, RecursionError) as refused:
                prefix = f"requests[{place}]."
                found = list(self._unreadable(request, prefix, form.needs))
                problems += found or [Problem(prefix[:-1], str(refused), "the declared fields")]
        if problems:
            raise RequestInvalid(self.where, problems[:20])
        return rows

    def logged(self, text: str) -> Row | None:
        """Return a request as it was logged, None if it has not the declared types any more."""
        try:
            if self._former.names:
                text = msgspec.json.encode(self._former.present(_RAW.decode(text))).decode()
            return self._row(self._logged.decode(text))
        except (msgspec.DecodeError, OverflowError):
            return None

    def _decoded(self, body: bytes, form: _Form, is_list: bool) -> list[Any]:
        """Return the requests of a body, with values in any form that those of events may have."""

        def decoded(text: bytes) -> list[Any]:
            return list(form.many.decode(text).requests) if is_list else [form.one.decode(text)]

        if is_finer(body):
            return decoded(self._restated(body, is_list))
        try:
            return decoded(body)
        except msgspec.ValidationError:
            return decoded(self._restated(body, is_list))

    def _restated(self, body: bytes, is_list: bool) -> bytes:
        """Return a body with its values in the fields' own forms."""
        try:
            found = _RAWS.decode(body).requests if is_list else [_RAW.decode(body)]
        except RecursionError:  # what is read says so, too
            return body
        rows = [restated(self.schema.fields, raw) or msgspec.json.encode(raw) for raw in found]
        return b'{"requests":[' + b",".join(rows) + b"]}" if is_list else rows[0]

    def _of_former_names(self, body: bytes, form: _Form, is_list: bool) -> list[Row] | None:
        """Return the requests of a body that has former names, None if that is not all."""
        if not self._former.names:
            return None
        try:
            found = _RAWS.decode(body).requests if is_list else [_RAW.decode(body)]
            if not 1 <= len(found) <= self.limit or not any(map(self._former.has, found)):
                return None
            return self._present(found, form)
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
            return None

    def _present(self, requests: Sequence[Any], form: _Form) -> list[Row]:
        """Return rows of requests, whose former names are counted once all can be read."""
        rows = []
        for request in requests:
            said = request
            if isinstance(request, Mapping) and self._former.has(request):
                said = self._former.present(request)
            [decoded] = self._decoded(msgspec.json.encode(said), form, is_list=False)
            rows.append(self._row(decoded))
        self._former.watch(requests)
        return rows

    def _unreadable(self, request: object, prefix: str, needs: Needs) -> Iterator[Problem]:
        """Yield what is wrong with a request that JSON may not even be able to say."""
        if not isinstance(request, dict):
            yield from self._problems(request, prefix, needs)
            return
        said: dict[str, Any] = {}
        unsaid: set[str] = set()
        for name, value in request.items():
            if self._former.names.get(name) == "":
                continue
            try:
                said[name] = json.loads(msgspec.json.encode(value))
            except (TypeError, ValueError, OverflowError, RecursionError):
                read_as = self._former.names.get(name, name)
                field = next((f for f in self.schema.fields if f.name == read_as), None)
                allowed = _allowed(field, needs) if field else ", ".join(self.schema.names())
                shown = f"{type(value).__name__}, which is no JSON"
                unsaid.add(prefix + _clip(str(name)))
                yield Problem(prefix + _clip(str(name)), shown, allowed)
                said[name] = None
        read = {name: value for name, value in said.items() if isinstance(name, str)}
        yield from (p for p in self._problems(read, prefix, needs) if p.field not in unsaid)

    def _refuse_twice(self, body: bytes, is_list: bool) -> None:
        found = json.loads(body, object_pairs_hook=_Pairs)
        asked = [("", found)]
        if is_list:
            asked += [(f"requests[{place}].", row) for place, row in enumerate(found["requests"])]
        problems = [
            Problem(prefix + _clip(name), "given twice", "each field once")
            for prefix, row in asked
            for name in row.twice
        ]
        if problems:
            raise RequestInvalid(self.where, problems[:20])

    def _row(self, decoded: Any) -> Row:
        said = msgspec.structs.asdict(decoded)
        row: Row = {name: value for name, value in said.items() if value is not UNSET}
        for name in self._instants:
            instant = row.get(name)
            if instant is not None:
                if not _EARLIEST <= instant.year <= _LATEST:
                    raise OverflowError(name)
                row[name] = instant.astimezone(UTC)
        return row

    def _explain(self, body: bytes, needs: Needs) -> tuple[list[Any], bool]:
        found = _parse(body, self.where)
        is_list = isinstance(found, dict) and "requests" in found
        is_list = is_list and not self.schema.has("requests")
        problems: list[Problem] = []
        rows = [found]
        if is_list:
            rows = found["requests"]
            extra = sorted(set(found) - {"requests"})
            if extra:
                problems.append(Problem(extra[0], "beside 'requests'", "nothing beside it"))
            if not isinstance(rows, list) or not 1 <= len(rows) <= self.limit:
                shown = f"{len(rows)} of them" if isinstance(rows, list) else _kind(rows)
                problems.append(Problem("requests", shown, f"a list of 1 to {self.limit}"))
                rows = []
        for place, row in enumerate(rows):
            prefix = f"requests[{place}]." if is_list else ""
            problems += self._problems(row, prefix, needs)
        if problems:
            raise RequestInvalid(self.where, problems[:20])
        return rows, is_list

    def _problems(self, row: object, prefix: str, needs: Needs) -> Iterator[Problem]:
        names = self.schema.names()
        if not isinstance(row, dict):
            allowed = f"an object with the fields {', '.join(names)}"
            if not prefix and isinstance(row, list):
                allowed += '; several requests are {"requests": [...]}'
            yield Problem(prefix.rstrip(".") or "body", _kind(row), allowed)
            return
        for name in row:
            if name not in names and name not in self._former.names:
                aliases = [alias for field in self.schema.fields for alias in field.aliases]
                hint = did_you_mean(name, [*names, *aliases]).strip()
                known = f"{hint} Known: {', '.join(names)}" if hint else ", ".join(names)
                yield Problem(prefix + _clip(name), "an unknown field", known)
        for field in self.schema.fields:
            allowed = _allowed(field, needs)
            given = next((n for n in (field.name, *field.aliases) if row.get(n) is not None), None)
            if given is None:
                given = next((n for n in (field.name, *field.aliases) if n in row), None)
            if given is None:
                if field.name in needs and field.default is None:
                    yield Problem(prefix + field.name, "missing", allowed)
                continue
            fault = _fault(field, row[given], needs.get(field.name, True))
            if fault:
                yield Problem(prefix + given, fault, allowed)


def _may_repeat(body: bytes, rows: Sequence[Row], is_list: bool) -> bool:
    """Return whether a name may stand twice in a request: decoders take the last one silently.

    A colon after a name follows a quote or white space. Where there are no more of these than
    values, no name comes twice; else (texts have such colons too, and a null is no value) the body
    has to be parsed again to be sure.
    """
    names = sum(map(body.count, (b'":', b" :", b"\n:", b"\t:", b"\r:")))
    values = sum([len(row) - list(row.values()).count(None) for row in rows])
    return names > values + is_list


class _Pairs(dict[str, Any]):
    """An object of JSON, and the names that it has more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = (
            [name for name in self if names.count(name) > 1] if len(self) < len(names) else []
        )


@dataclass(frozen=True, slots=True)
class _Form:
    """The decoders of one request and of a body of many, for what is needed."""

    needs: Needs
    one: msgspec.json.Decoder[Any]
    many: msgspec.json.Decoder[Any]

    @classmethod
    def of(cls, schema: EventSchema, needs: Needs, limit: int) -> _Form:
        """Return the decoders for requests of an event."""
        row = msgspec.defstruct(
            f"{schema.name}Request",
            [_member(field, needs) for field in schema.fields],
            forbid_unknown_fields=True,
            kw_only=True,
        )
        rows = Annotated[list[row], msgspec.Meta(min_length=1, max_length=limit)]  # type: ignore[valid-type]
        many = msgspec.defstruct("Requests", [("requests", rows)], forbid_unknown_fields=True)
        return cls(needs, msgspec.json.Decoder(row), msgspec.json.Decoder(many))


def _member(field: Field, needs: Needs) -> tuple[Any, ...]:
    """Return how a field is read; UNSET is one that a request does not have."""
    kind = _TYPES[field.kind] | None if needs.get(field.name, True) else _TYPES[field.kind]
    if field.name in needs and field.default is None:
        return (field.name, kind)
    return (field.name, kind | UnsetType, UNSET)


def _allowed(field: Field, needs: Needs) -> str:
    return _WORDS[field.kind] + (", or null" if needs.get(field.name, field.nullable) else "")


def _parse(body: bytes, where: str) -> Any:
    try:
        return json.loads(body.decode())
    except UnicodeDecodeError as wrong:
        raise RequestMalformed(
            f"{where}: the body is not UTF-8 ({wrong.reason} at byte {wrong.start}); allowed: JSON "
            "in UTF-8; encode it so."
        ) from None
    except (ValueError, RecursionError) as wrong:
        raise RequestMalformed(
            f"{where}: the body is no JSON ({_clip(str(wrong))}); allowed: an object, or "
            '{"requests": [...]}; send JSON.'
        ) from None


def _fault(field: Field, value: object, nullable: bool) -> str:
    """Return what is wrong with a value, or nothing; personal values are never repeated."""
    if value is None:
        return "" if nullable else "null"
    fault = _FAULTS[field.kind](value)
    if fault != "value":
        return fault
    return _kind(value) if field.is_personal else f"{_kind(value)} {_clip(json.dumps(value))}"


def _text_fault(value: object) -> str:
    if not isinstance(value, str):
        return "value"
    return "half a surrogate pair" if any(0xD800 <= ord(c) < 0xE000 for c in value) else ""


def _integer_fault(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return "value"
    return "" if -(2**63) <= value < 2**63 else "value"


def _float_fault(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "value"
    try:
        return "" if isfinite(float(value)) else "not a finite number"
    except OverflowError:
        return "not a finite number"


def _boolean_fault(value: object) -> str:
    return "" if isinstance(value, bool) else "value"


def _instant_fault(value: object) -> str:
    if not isinstance(value, str):
        return "value"
    try:
        instant = msgspec.convert(value, _TYPES["timestamp"])
    except (msgspec.ValidationError, UnicodeEncodeError):
        return "value"
    return "" if _EARLIEST <= instant.year <= _LATEST else "value"


_FAULTS = {
    "string": _text_fault,
    "integer": _integer_fault,
    "float": _float_fault,
    "boolean": _boolean_fault,
    "timestamp": _instant_fault,
}


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _clip(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
