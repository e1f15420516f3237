"""Whatever stands at whatever place of a body, the door takes it or says what is wrong."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.edge.apis.declarations import DOORS, Door
from services.edge.apis.refusals import MESSAGE_LIMIT, PARAM_LIMIT, Invalid, fault

WHOLE = [
    *(b"", b"[]", b'"x"', b"null", b"1", b"true", b"{", b"{}", b"\xff\xfe", b"\xef\xbb\xbf{}"),
    *(b"\x00", b"NaN", b'{"model":NaN}', b'{"model":"\xff"}', b"[" * 10_000),
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
]
PARTS = [
    *(b"null", b"true", b"0", b"-0.0", b"-1", b"1.5", b"1e400", b"1e-400", b"NaN", b"Infinity"),
    *(b"1" + b"0" * 400, b"-1" + b"0" * 400, str(2**63).encode(), str(2**64).encode()),
    *(b'""', b'"x"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"a\\u0000b"', b'"\x00"', b'"\xff"'),
    *(
        b'"\xed\xa0\x80"',
        b'"' + b"a" * 70_000 + b'"',
        b"[]",
        b"[[]]",
        b"[null]",
        b"[-1]",
        b"[1e400]",
    ),
    *(b"{}", b'{"a":null}', b'{"":""}', b'{"\\ud800":1}', b'{"99999999999999999999":1}'),
    *(b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 900 + b"1" + b"}" * 900),
]
MARK = "here it stands"


def bodies(door: Door) -> Iterator[bytes]:
    """Every example, with a mark at each of its places."""
    marked = set()
    for parameter, examples in door.examples.items():
        for example in examples:
            beside = {**door.least, **example.beside}
            for value in _marked(example.value):
                marked.add(json.dumps({**beside, parameter: value}))
    marked |= {json.dumps({**door.least, parameter: MARK}) for parameter in door.least}
    return (body.encode() for body in sorted(marked))


def _marked(value: Any) -> Iterator[Any]:
    yield MARK
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from ({**value, name: each} for each in _marked(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value[:2]):
            yield from ([*value[:at], each, *value[at + 1 :]] for each in _marked(inner))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_it_is_taken_or_named(door: Door) -> None:
    quoted = f'"{MARK}"'.encode()
    sent = [body.replace(quoted, part) for body in bodies(door) for part in PARTS]
    outcomes = [door.read(body) for body in (*WHOLE, *sent)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Invalid)]
    assert len(WHOLE) < len(refused) < len(outcomes), "some are right"
    for refusal in refused:
        told = fault(refusal)
        assert 0 < len(told.message) <= MESSAGE_LIMIT + 1
        assert len(told.param or "") <= PARAM_LIMIT + 1
        assert told.param is not None or refusal.code, refusal
