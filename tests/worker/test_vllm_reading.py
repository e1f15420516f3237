"""The formats of calls and reasoning that the vocabulary at hand can write, through the seam.

A real model has its marks in its vocabulary; here the demo model gets those of all of them.
"""

import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tokenizers import AddedToken, Tokenizer

from services.worker.choice import Choice
from services.worker.engine import End, EndReason, Output
from services.worker.parsed import ParsedChoice
from services.worker.parsing import CannotParse, Ending, ParserBroken, Parsing
from services.worker.requests import Request
from services.worker.text import Decoder, Stop, TextStream
from tests.worker.test_vllm_parsing import (
    AUTO,
    NAMED,
    PROMPT,
    REQUIRED,
    Told,
    planned,
    put_together,
    request,
)

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm.reasoning import ReasoningParserManager
    from vllm.tokenizers import TokenizerLike, get_tokenizer
    from vllm.tool_parsers import ToolParserManager

    from services.worker.vllm_parsing import UnknownParser, VllmParsers

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

DEEPSEEKS_BAR = "\uff5c"  # written as ¦ here
SPECIAL = (
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
    "[TOOL_CALLS]",
    "[THINK]",
    "[/THINK]",
    "<|tool_call|>",
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|tools_prefix|>",
    "<|tools_suffix|>",
)
PLAIN = (
    "<think>",
    "</think>",
    "<seed:think>",
    "</seed:think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_calls>",
    "</tool_calls>",
    "<seed:tool_call>",
    "</seed:tool_call>",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<longcat_tool_call>",
    "</longcat_tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<start_function_call>",
    "<end_function_call>",
    "<escape>",
    *(
        f"<{DEEPSEEKS_BAR}tool▁{mark}{DEEPSEEKS_BAR}>"
        for mark in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end")
    ),
    *(
        f"<|tool_call{mark}|>"
        for mark in ("s_section_begin", "s_section_end", "_begin", "_argument_begin")
    ),
)

ARGUMENTS = json.dumps({"city": "Paris", "days": 3})
WEATHER_CALL = ("weather", {"city": "Paris", "days": 3})
CLOCK_CALL: tuple[str, dict[str, Any]] = ("clock", {})
BEFORE = "Let me see.\n"


class Format(NamedTuple):
    """How a model writes its two calls; `ARGS` stands for the first one's arguments."""

    written: str
    takes_text: bool = True  # before the calls, and tells it apart

    @property
    def calls(self) -> str:
        return self.written.replace("ARGS", ARGUMENTS).replace("¦", DEEPSEEKS_BAR)


_JSON = '[{"name": "weather", "arguments": ARGS}, {"name": "clock", "arguments": {}}]'
_PYTHON = '[weather(city="Paris", days=3), clock()]'
_HERMES = (
    '<tool_call>\n{"name": "weather", "arguments": ARGS}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)
_XML = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n"
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=clock>\n</function>\n"
    "</tool_call>"
)
_GLM = (
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>clock\n</tool_call>"
)
_V3 = (
    "<¦tool▁calls▁begin¦><¦tool▁call▁begin¦>function<¦tool▁sep¦>weather\n```json\nARGS\n```"
    "<¦tool▁call▁end¦>\n<¦tool▁call▁begin¦>function<¦tool▁sep¦>clock\n```json\n{}\n```"
    "<¦tool▁call▁end¦><¦tool▁calls▁end¦>"
)
FORMATS = {
    "hermes": Format(_HERMES),
    "qwen3_json": Format(_HERMES),
    "granite4": Format(_HERMES),
    "llama3_json": Format(
        '<|python_tag|>{"name": "weather", "parameters": ARGS}; '
        '{"name": "clock", "parameters": {}}',
        takes_text=False,
    ),
    "pythonic": Format(_PYTHON, takes_text=False),
    "llama4_pythonic": Format(f"<|python_start|>{_PYTHON}<|python_end|>", takes_text=False),
    "lfm2": Format(f"<|tool_call_start|>{_PYTHON}<|tool_call_end|>"),
    "olmo3": Format(
        '<function_calls>weather(city="Paris", days=3)\nclock()</function_calls>', takes_text=False
    ),
    "mistral": Format(f"[TOOL_CALLS]{_JSON}"),
    "granite": Format(f"<|tool_call|>{_JSON}"),
    "xlam": Format(_JSON, takes_text=False),
    "phi4_mini_json": Format(f"functools{_JSON}", takes_text=False),
    "jamba": Format(f"<tool_calls>{_JSON}</tool_calls>"),
    "hunyuan_a13b": Format(f"<tool_calls>{_JSON}</tool_calls>"),
    "granite-20b-fc": Format(
        '<function_call> {"name": "weather", "arguments": ARGS} '
        '<function_call> {"name": "clock", "arguments": {}}',
        takes_text=False,
    ),
    "qwen3_coder": Format(_XML),
    "qwen3_xml": Format(_XML),
    "step3p5": Format(_XML),
    "mimo": Format(_XML.replace("\nParis\n", "Paris").replace("\n3\n", "3")),
    "seed_oss": Format(_XML.replace("tool_call>", "seed:tool_call>")),
    "glm45": Format(_GLM),
    "glm47": Format(_GLM.replace("\n", "")),
    "deepseek_v3": Format(_V3),
    "deepseek_v31": Format(
        _V3.replace("function<¦tool▁sep¦>weather\n```json\n", "weather<¦tool▁sep¦>")
        .replace("function<¦tool▁sep¦>clock\n```json\n", "clock<¦tool▁sep¦>")
        .replace("\n```", "")
    ),
    "deepseek_v32": Format(
        '<¦DSML¦function_calls>\n<¦DSML¦invoke name="weather">\n'
        '<¦DSML¦parameter name="city" string="true">Paris</¦DSML¦parameter>\n'
        '<¦DSML¦parameter name="days" string="false">3</¦DSML¦parameter>\n'
        '</¦DSML¦invoke>\n<¦DSML¦invoke name="clock">\n</¦DSML¦invoke>\n'
        "</¦DSML¦function_calls>"
    ),
    "kimi_k2": Format(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
        "<|tool_call_argument_begin|>ARGS<|tool_call_end|><|tool_call_begin|>functions.clock:1"
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
    ),
    "minimax_m2": Format(
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Paris</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n<invoke name="clock">\n</invoke>\n'
        "</minimax:tool_call>"
    ),
    "longcat": Format(_HERMES.replace("tool_call>", "longcat_tool_call>")),
    "functiongemma": Format(
        "<start_function_call>call:weather{city:<escape>Paris<escape>,days:<escape>3<escape>}"
        "<end_function_call><start_function_call>call:clock{}<end_function_call>"
    ),
    "apertus": Format('<|tools_prefix|>[{"weather": ARGS}, {"clock": {}}]<|tools_suffix|>'),
}
THOUGHTS = {
    "qwen3": "<think>\nA city.\n</think>\n\nYes.",
    "deepseek_r1": "A city.\n</think>\n\nYes.",
    "glm45": "<think>A city.</think>\nYes.",
    "granite": "Here is my thought process: A city.\nHere is my response: Yes.",
    "granite_thinking_parser": "<think>A city.</think>Yes.",
    "holo2": "A city.\n</think>\n\nYes.",
    "kimi_k2": "<think>A city.</think>Yes.",
    "mimo": "<think>A city.</think>Yes.",
    "minimax_m2": "A city.\n</think>\n\nYes.",
    "mistral": "[THINK]A city.[/THINK]Yes.",
    "nemotron_v3": "<think>A city.</think>Yes.",
    "olmo3": "<think>A city.</think>Yes.",
    "seed_oss": "<seed:think>A city.</seed:think>Yes.",
    "step3": "A city.\n</think>\n\nYes.",
    "step3p5": "A city.\n</think>\n\nYes.",
}


class Model(NamedTuple):
    """A vocabulary, as vLLM reads it and as the worker does."""

    path: str
    of_vllm: TokenizerLike
    tokenizer: Tokenizer

    def parsers(self, tools: str, reasoning: str = "") -> VllmParsers:
        return VllmParsers(self.path, self.of_vllm, tools, reasoning)

    def choice(self, plan: Request) -> ParsedChoice:
        decoder = Decoder(self.tokenizer, PROMPT, plan.parser_needs_special)
        assert plan.parser is not None
        choice = Choice(TextStream(decoder, Stop()), False)
        return ParsedChoice(choice, plan.parser(), ends_as_stop=False)

    def ids(self, answer: str) -> list[int]:
        return [*self.tokenizer.encode(answer, add_special_tokens=False).ids, 2]


@pytest.fixture(scope="module")
def polyglot(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The demo model's vocabulary with everybody's marks."""
    folder = tmp_path_factory.mktemp("polyglot")
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo_model / name).read_bytes())
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    for marks, is_special in ((SPECIAL, True), (PLAIN, False)):
        tokenizer.add_tokens([AddedToken(m, special=is_special, normalized=False) for m in marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    return Model(str(folder), get_tokenizer(str(folder)), tokenizer)


@pytest.fixture(scope="module")
def markless(demo_model: Path) -> Model:
    """A vocabulary that has no marks."""
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    return Model(str(demo_model), get_tokenizer(str(demo_model)), tokenizer)


def streamed(choice: ParsedChoice, ids: Sequence[int]) -> Told:
    """What is told of an answer that comes token by token, to its end."""
    *others, last = ids
    pieces = [choice.advance(Output([each])) for each in others]
    return put_together([*pieces, choice.advance(Output([last], end=End(EndReason.STOPPED)))])


@pytest.mark.parametrize("name", FORMATS)
def test_streamed_calls_are_what_the_model_wrote(polyglot: Model, name: str) -> None:
    plan = planned(polyglot.parsers(name), AUTO)
    for before in ("", BEFORE)[: 1 + FORMATS[name].takes_text]:
        ids = polyglot.ids(before + FORMATS[name].calls)
        text, _, calls = streamed(polyglot.choice(plan), ids).whole
        assert (text.strip(), calls) == (before.strip(), [WEATHER_CALL, CLOCK_CALL])


@pytest.mark.parametrize("name", FORMATS)
def test_text_that_calls_nothing_is_told_whole(polyglot: Model, name: str) -> None:
    plan = planned(polyglot.parsers(name), AUTO)
    told = streamed(polyglot.choice(plan), polyglot.ids("It is 3 < 4, and [so] on."))
    assert told.whole == ("It is 3 < 4, and [so] on.", "", [])


@pytest.mark.parametrize("name", FORMATS)
def test_who_takes_over_tells_the_rest(polyglot: Model, name: str) -> None:
    plan = planned(polyglot.parsers(name), AUTO)
    ids = polyglot.ids(FORMATS[name].calls)
    for at in range(1, len(ids), max(1, len(ids) // 4)):
        first, second = polyglot.choice(plan), polyglot.choice(plan)
        before = [first.advance(Output([each])) for each in ids[:at]]
        assert second.resume(ids[:at], max_tokens=1000) is None
        after = second.advance(Output(ids[at:], end=End(EndReason.STOPPED)))
        assert put_together([*before, after]).whole[2] == [WEATHER_CALL, CLOCK_CALL]


@pytest.mark.parametrize("name", FORMATS)
def test_every_model_can_be_held_to_a_call(polyglot: Model, name: str) -> None:
    parsers = polyglot.parsers(name)
    for parsing in (NAMED, REQUIRED):
        assert planned(parsers, parsing).sampling.constraint is not None


@pytest.mark.parametrize("name", ["llama3_json", "olmo3", "granite-20b-fc"])
def test_calls_that_vllm_finds_only_in_the_whole_answer_are_not_lost(
    polyglot: Model, name: str
) -> None:
    plan = planned(polyglot.parsers(name), AUTO)
    told = streamed(polyglot.choice(plan), polyglot.ids(BEFORE + FORMATS[name].calls))
    assert told.text.startswith(BEFORE)
    assert told.whole[2] == [WEATHER_CALL, CLOCK_CALL]


@pytest.mark.parametrize("name", ["phi4_mini_json", "jamba", "hunyuan_a13b", "functiongemma"])
def test_what_is_read_whole_promises_no_call_that_was_cut(polyglot: Model, name: str) -> None:
    plan = planned(polyglot.parsers(name), AUTO)
    one_call = planned(polyglot.parsers(name), replace(AUTO, single_call=True))
    ids = polyglot.ids(FORMATS[name].calls)
    cut = polyglot.choice(plan).advance(Output(ids, end=End(EndReason.LENGTH)))
    assert put_together([cut]).calls == []
    assert [call["name"] for call in streamed(polyglot.choice(one_call), ids).calls] == ["weather"]


@pytest.mark.parametrize("name", THOUGHTS)
def test_streamed_thoughts_are_apart(polyglot: Model, name: str) -> None:
    plan = planned(polyglot.parsers("", name), Parsing())
    text, reasoning, calls = streamed(polyglot.choice(plan), polyglot.ids(THOUGHTS[name])).whole
    assert (text.strip(), reasoning.strip(), calls) == ("Yes.", "A city.", [])


@pytest.mark.parametrize(
    ("tools", "reasoning", "says"),
    [
        pytest.param("deepseek_v3", "", "could not locate tool call", id="deepseek_v3"),
        pytest.param("llama3_json", "", r"<\|python_tag\|>", id="llama3_json"),
        pytest.param("mistral", "", "could not locate", id="mistral"),
        pytest.param("jamba", "", "could not locate", id="jamba"),
        pytest.param("hf", "", "response_template", id="hf"),
        pytest.param("openai", "", r"lacks <\|start\|>", id="gpt-oss-calls"),
        pytest.param("", "openai_gptoss", r"lacks <\|start\|>", id="gpt-oss-reasons"),
        pytest.param("", "step3", "could not locate", id="step3"),
        pytest.param("cohere_command3", "", "cohere", id="a-package-that-is-not-installed"),
        pytest.param("hermes", "openai_gptoss", "lacks", id="a-pair-that-is-none"),
    ],
)
def test_a_parser_that_does_not_fit_says_why(
    markless: Model, tools: str, reasoning: str, says: str
) -> None:
    with pytest.raises(UnknownParser, match=says):
        markless.parsers(tools, reasoning)


def test_every_parser_of_vllm_fits_or_says_why(markless: Model) -> None:
    names = [(name, "") for name in ToolParserManager.list_registered()]
    names += [("", name) for name in ReasoningParserManager.list_registered()]
    fitting = set()
    for tools, reasoning in names:
        with suppress(UnknownParser):
            markless.parsers(tools, reasoning)
            fitting.add((tools, reasoning))
    assert {("hermes", ""), ("xlam", ""), ("", "olmo3"), ("", "granite")} <= fitting
    assert not {("mistral", ""), ("openai", ""), ("cohere_command4", ""), ("", "step3")} & fitting


class Stumbles:
    """A parser of vLLM's that breaks, where `at` says."""

    def __init__(self, at: str) -> None:
        self._at = at

    def __getattr__(self, name: str) -> Any:
        if name == self._at:
            raise KeyError("what the model wrote")
        return lambda *_, **__: None


@pytest.mark.parametrize("at", ["parse_delta", "parse", "set_prompt_token_ids"])
def test_a_parser_that_breaks_is_named_as_that(polyglot: Model, at: str) -> None:
    make = planned(polyglot.parsers("hermes"), AUTO).parser
    assert isinstance(make, partial)
    _, *others = make.args
    with pytest.raises(ParserBroken):
        make.func(lambda: Stumbles(at), *others).finish("a", [5], Ending.OVER)


def test_a_parser_that_cannot_take_a_request_refuses_it(
    polyglot: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers = polyglot.parsers("hermes")

    def stumble(*_: object, **__: object) -> None:
        raise KeyError("what the caller wrote")

    monkeypatch.setattr(parsers, "_free", stumble)
    plan = parsers.plan(request(AUTO))
    assert plan == CannotParse("the model's parser cannot take this request", "tools")
