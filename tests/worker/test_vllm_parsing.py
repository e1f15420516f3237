"""vLLM's own parsers behind the port, without an engine."""

import json
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from services.worker.choice import Choice, Piece
from services.worker.engine import Constraint, ConstraintKind, End, EndReason, Output, Sampling
from services.worker.parsed import ParsedChoice
from services.worker.parsing import Apart, CannotParse, Ending, Parsing, Tool, ToolChoice
from services.worker.requests import Request
from services.worker.text import Decoder, Stop, TextStream

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from services.worker.vllm_parsing import UnknownParser, VllmParsers

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

WEATHER = Tool(
    "weather",
    json.dumps(
        {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        }
    ),
)
CLOCK = Tool("clock")
AUTO = Parsing(tools=(WEATHER, CLOCK), choice=ToolChoice.AUTO)
PROMPT = (1, 2, 3)


def called(name: str, arguments: object) -> str:
    """A call as hermes writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


PARIS = called("weather", {"city": "Paris", "days": 3})
TWO = f"Let me see. 1 < 2\n{PARIS}\n{called('clock', {})}"


@pytest.fixture(scope="module")
def hermes(demo_model: Path) -> VllmParsers:
    return VllmParsers.load(str(demo_model), "hermes", "")


@pytest.fixture(scope="module")
def thinking_model(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model's vocabulary, with the marks of one that reasons."""
    folder = tmp_path_factory.mktemp("thinking")
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo_model / name).read_bytes())
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    marks = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def request(parsing: Parsing, constraint: Constraint | None = None) -> Request:
    sampling = Sampling(temperature=0.0, constraint=constraint)
    return Request(request_id="r", model="m", prompt=PROMPT, sampling=sampling, parsing=parsing)


def planned(
    parsers: VllmParsers, parsing: Parsing, constraint: Constraint | None = None
) -> Request:
    plan = parsers.plan(request(parsing, constraint))
    assert isinstance(plan, Request), plan
    return plan


class Told:
    """What was told of a choice, put together as a client does."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[dict[str, str]] = []

    def add(self, text: str, apart: Apart | None) -> None:
        self.text += text
        if apart is None:
            return
        self.reasoning += apart.reasoning
        for call in apart.calls:
            if call.index == len(self.calls):
                assert call.id
                self.calls.append({"name": call.name, "arguments": ""})
            self.calls[call.index]["arguments"] += call.arguments

    @property
    def whole(self) -> tuple[str, str, list[tuple[str, Any]]]:
        calls = [(call["name"], json.loads(call["arguments"])) for call in self.calls]
        return self.text, self.reasoning, calls


def read(
    parsers: VllmParsers, tokenizer: Tokenizer, pieces: Sequence[str], parsing: Parsing = AUTO
) -> Told:
    """Feed an answer that comes in these pieces."""
    make = planned(parsers, parsing).parser
    assert make is not None
    parser = make()
    told = Told()
    for piece in pieces:
        told.add(*parser.feed(piece, tokenizer.encode(piece, add_special_tokens=False).ids))
    told.add(*parser.finish("", [2], Ending.OVER))
    return told


def split(text: str, seed: int) -> list[str]:
    chance = random.Random(seed)
    edges = sorted({0, len(text), *(chance.randrange(len(text)) for _ in range(len(text) // 3))})
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param("Hello.", ("Hello.", []), id="text"),
        pytest.param("I <3 you <", ("I <3 you <", []), id="what-looks-like-a-mark"),
        pytest.param(PARIS, ("", [("weather", {"city": "Paris", "days": 3})]), id="a-call"),
        pytest.param(f"\n\n{PARIS}", ("", [("weather", {"city": "Paris", "days": 3})]), id="blank"),
        pytest.param(
            TWO,
            ("Let me see. 1 < 2\n", [("weather", {"city": "Paris", "days": 3}), ("clock", {})]),
            id="text-and-two-calls",
        ),
        pytest.param(
            '<tool_call>\n{"name": "clock"}\n</tool_call>', ("", [("clock", {})]), id="no-arguments"
        ),
        pytest.param("<tool_call>nothing", ("<tool_call>nothing", []), id="no-call-is-text"),
        pytest.param(
            called("weather", {"city": 'a "b" {c} \\ ü </x>'}),
            ("", [("weather", {"city": 'a "b" {c} \\ ü </x>'})]),
            id="arguments-with-anything-in-them",
        ),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_hermes(
    hermes: VllmParsers, tokenizer: Tokenizer, answer: str, says: tuple[str, Any], seed: int
) -> None:
    text, _, calls = read(hermes, tokenizer, split(answer, seed)).whole
    assert (text, calls) == says


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_any_split_makes_the_same_calls(
    hermes: VllmParsers, tokenizer: Tokenizer, seed: int
) -> None:
    assert read(hermes, tokenizer, split(TWO, seed)).whole == read(hermes, tokenizer, [TWO]).whole


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    end=st.integers(1, len(TWO)),
    ending=st.sampled_from([Ending.CUT, Ending.STOPPED]),
)
def test_what_is_cut_off_leaks_no_mark(
    hermes: VllmParsers, tokenizer: Tokenizer, seed: int, end: int, ending: Ending
) -> None:
    make = planned(hermes, AUTO).parser
    assert make is not None
    parser, told = make(), Told()
    *others, last = split(TWO[:end], seed) if end > 1 else [TWO[:1]]
    for piece in others:
        told.add(*parser.feed(piece, tokenizer.encode(piece).ids))
    told.add(*parser.finish(last, tokenizer.encode(last).ids, ending))
    assert TWO.startswith(told.text.removesuffix(" "))
    assert "<tool_call>" not in told.text
    # At a stop string, what is no whole mark was text.
    assert ending is Ending.STOPPED or "<tool" not in told.text
    whole = read(hermes, tokenizer, [TWO])
    for call, complete in zip(told.calls, whole.calls, strict=False):
        assert complete["arguments"].startswith(call["arguments"])


def test_what_looks_like_a_mark_before_a_stop_string_is_text(
    hermes: VllmParsers, tokenizer: Tokenizer
) -> None:
    make = planned(hermes, AUTO).parser
    assert make is not None
    parser, told = make(), Told()
    told.add(*parser.feed("I <3 you <", tokenizer.encode("I <3 you <").ids))
    told.add(*parser.finish("", [2], Ending.STOPPED))
    assert told.text == "I <3 you <"


@pytest.mark.parametrize("choice", [ToolChoice.REQUIRED, ToolChoice.NAMED])
def test_a_stop_string_in_a_call_that_must_be_leaves_no_text(
    hermes: VllmParsers, tokenizer: Tokenizer, choice: ToolChoice
) -> None:
    parsing = replace(AUTO, choice=choice, tool_name="clock")
    make = planned(hermes, parsing).parser
    assert make is not None
    parser, told = make(), Told()
    begun = '<tool_call>\n{"name": "clo'
    told.add(*parser.feed(begun, tokenizer.encode(begun).ids))
    told.add(*parser.finish("", [2], Ending.STOPPED))
    assert told.text == ""


@pytest.mark.parametrize("choice", [ToolChoice.REQUIRED, ToolChoice.NAMED])
def test_a_form_for_the_text_stands_back_where_a_call_must_be(
    hermes: VllmParsers, choice: ToolChoice
) -> None:
    parsing = replace(AUTO, choice=choice, tool_name="clock")
    form = Constraint(ConstraintKind.TEXTS, ("yes", "no"))
    with_form, without = planned(hermes, parsing, form), planned(hermes, parsing)
    assert with_form.sampling.constraint == without.sampling.constraint


def choice(model: Path, plan: Request) -> ParsedChoice:
    decoder = Decoder(Tokenizer.from_file(str(model / "tokenizer.json")), PROMPT, False)
    assert plan.parser is not None
    return ParsedChoice(
        Choice(TextStream(decoder, Stop()), False), plan.parser(), ends_as_stop=False
    )


def put_together(pieces: Sequence[Piece]) -> Told:
    told = Told()
    for piece in pieces:
        told.add(piece.text, piece.apart)
    return told


@settings(max_examples=30)
@given(data=st.data())
def test_who_takes_over_in_a_call_tells_the_rest(
    hermes: VllmParsers, demo_model: Path, tokenizer: Tokenizer, data: st.DataObject
) -> None:
    ids = [*tokenizer.encode(TWO, add_special_tokens=False).ids, 2]
    at = data.draw(st.integers(0, len(ids) - 1))
    plan = planned(hermes, AUTO)
    first, second = choice(demo_model, plan), choice(demo_model, plan)
    before = [first.advance(Output([each])) for each in ids[:at]]
    assert second.resume(ids[:at], max_tokens=1000) is None
    after = second.advance(Output(ids[at:], end=End(EndReason.STOPPED)))
    assert put_together([*before, after]).whole == read(hermes, tokenizer, [TWO]).whole
    assert after.finish is not None
    assert after.finish.reason.name == "TOOL_CALLS"


def test_one_call_is_all_where_one_is_asked_for(hermes: VllmParsers, tokenizer: Tokenizer) -> None:
    single = replace(AUTO, single_call=True)
    _, _, calls = read(hermes, tokenizer, split(TWO, 1), single).whole
    assert [name for name, _ in calls] == ["weather"]


NAMED = replace(AUTO, choice=ToolChoice.NAMED, tool_name="weather")
REQUIRED = replace(AUTO, choice=ToolChoice.REQUIRED)
ANY_OBJECT = Constraint(ConstraintKind.ANY_JSON_OBJECT, ())


def form_of(plan: Request) -> Any:
    constraint = plan.sampling.constraint
    assert constraint is not None
    assert constraint.kind is ConstraintKind.STRUCTURAL_TAG
    return json.loads(constraint.texts[0])["format"]


def schemas(node: Any) -> list[Any]:
    if isinstance(node, list):
        return [schema for each in node for schema in schemas(each)]
    if not isinstance(node, dict):
        return []
    if node.get("type") == "json_schema":
        return [node]
    return [schema for each in node.values() for schema in schemas(each)]


def test_auto_is_free(hermes: VllmParsers) -> None:
    assert planned(hermes, AUTO).sampling.constraint is None


@pytest.mark.parametrize(
    ("parsing", "names"),
    [
        pytest.param(NAMED, {"weather"}, id="named"),
        pytest.param(REQUIRED, {"weather", "clock"}, id="required"),
        pytest.param(replace(AUTO, single_call=True), {"weather", "clock"}, id="one-call"),
        pytest.param(
            replace(AUTO, tools=(replace(WEATHER, is_strict=True), CLOCK)),
            {"weather", "clock"},
            id="strict",
        ),
    ],
)
def test_a_call_is_held_to_its_schema(
    hermes: VllmParsers, parsing: Parsing, names: set[str]
) -> None:
    form = form_of(planned(hermes, parsing))
    assert {name for name in ("weather", "clock") if f'\\"{name}\\"' in json.dumps(form)} == names
    found = schemas(form)
    assert found
    assert all(schema["json_schema"]["type"] == "object" for schema in found)
    assert all(schema["max_whitespace_cnt"] == 1 for schema in found)


def test_auto_with_a_form_may_call_or_answer_in_it(hermes: VllmParsers) -> None:
    form = form_of(planned(hermes, AUTO, ANY_OBJECT))
    assert form["type"] == "or"


def test_a_tool_whose_schema_is_no_schema_is_named(hermes: VllmParsers) -> None:
    bad = replace(NAMED, tools=(Tool("weather", '{"type": "object", "properties": 3}'),))
    plan = hermes.plan(request(bad))
    assert isinstance(plan, CannotParse | Request)  # the engine refuses it if the parser does not
    if isinstance(plan, CannotParse):
        assert plan.parameter == "tools"


UNIQUE = Tool(
    "weather",
    '{"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}',
)


@pytest.mark.parametrize(
    ("parsing", "is_refused"),
    [
        pytest.param(replace(AUTO, tools=(UNIQUE,)), False, id="auto-promises-nothing"),
        pytest.param(replace(NAMED, tools=(UNIQUE,)), True, id="named"),
        pytest.param(replace(REQUIRED, tools=(CLOCK, UNIQUE)), True, id="required"),
        pytest.param(replace(NAMED, tool_name="clock", tools=(CLOCK, UNIQUE)), False, id="another"),
        pytest.param(replace(AUTO, tools=(replace(UNIQUE, is_strict=True),)), True, id="strict"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_not_made(
    hermes: VllmParsers, parsing: Parsing, is_refused: bool
) -> None:
    plan = hermes.plan(request(parsing))
    assert isinstance(plan, CannotParse) is is_refused
    if isinstance(plan, CannotParse):
        assert plan.parameter == "tools"


def test_without_a_tool_that_may_be_called_nothing_changes(hermes: VllmParsers) -> None:
    asked = request(replace(AUTO, choice=ToolChoice.NONE))
    assert hermes.plan(asked) is asked


def test_a_parser_that_nobody_knows_is_an_error(demo_model: Path) -> None:
    with pytest.raises(UnknownParser):
        VllmParsers.load(str(demo_model), "no-such-parser", "")
    with pytest.raises(UnknownParser):
        VllmParsers.load(str(demo_model), "hermes", "deepseek_r1")  # it has no <think>


@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1"])
@pytest.mark.parametrize("tools", [True, False])
def test_reasoning_is_apart(thinking_model: Path, name: str, tools: bool) -> None:
    parsers = VllmParsers.load(str(thinking_model), "hermes", name)
    tokenizer = Tokenizer.from_file(str(thinking_model / "tokenizer.json"))
    answer = f"<think>\nA city. Paris?\n</think>\n\nYes.{PARIS if tools else ''}"
    plan = planned(parsers, AUTO if tools else Parsing())
    ids = [*tokenizer.encode(answer, add_special_tokens=False).ids, 2]
    whole = choice(thinking_model, plan).advance(Output(ids, end=End(EndReason.STOPPED)))
    told = put_together([whole])
    assert told.reasoning.strip() == "A city. Paris?"
    assert told.text.strip() == "Yes."
    assert told.whole[2] == ([("weather", {"city": "Paris", "days": 3})] if tools else [])
    for at in range(0, len(ids), 3):
        first, second = choice(thinking_model, plan), choice(thinking_model, plan)
        before = [first.advance(Output([each])) for each in ids[:at]]
        assert second.resume(ids[:at], max_tokens=1000) is None
        after = second.advance(Output(ids[at:], end=End(EndReason.STOPPED)))
        assert put_together([*before, after]).whole == told.whole


def test_reasoning_can_be_left_out(thinking_model: Path) -> None:
    parsers = VllmParsers.load(str(thinking_model), "", "qwen3")
    tokenizer = Tokenizer.from_file(str(thinking_model / "tokenizer.json"))
    plan = planned(parsers, Parsing(hide_reasoning=True))
    ids = [*tokenizer.encode("<think>Why?</think>Yes.", add_special_tokens=False).ids, 2]
    told = put_together(
        [choice(thinking_model, plan).advance(Output(ids, end=End(EndReason.STOPPED)))]
    )
    assert (told.reasoning, told.text.strip()) == ("", "Yes.")


def test_a_constraint_waits_for_the_end_of_reasoning(thinking_model: Path) -> None:
    parsers = VllmParsers.load(str(thinking_model), "hermes", "qwen3")
    tokenizer = Tokenizer.from_file(str(thinking_model / "tokenizer.json"))
    assert planned(parsers, NAMED).sampling.thinking == {}
    done = replace(request(NAMED), prompt=tokenizer.encode("<think>\n\n</think>\n\n").ids)
    plan = parsers.plan(done)
    assert isinstance(plan, Request)
    assert plan.sampling.thinking is None
