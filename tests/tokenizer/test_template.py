"""Rendering equals transformers', or refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

from services.tokenizer.conversation import offered, spoken
from services.tokenizer.outcomes import TemplateRefused
from services.tokenizer.prompt import Chat, Message, Tool, ToolCall
from services.tokenizer.template import CHATML, ChatTemplate

# Qwen's ways with tools, Llama's with roles, DeepSeek's with reasoning, in one.
RICH = """
{{- bos_token }}
{%- if tools %}{{- '# Tools\n' }}
  {%- for tool in tools %}{{- tool | tojson }}{{ '\n' }}{%- endfor %}
{%- endif %}
{%- for message in messages %}
  {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
    {{- raise_exception('Roles must be system, user, assistant or tool.') }}
  {%- endif %}
  {{- '<|im_start|>' + message.role + '\n' }}
  {%- if message.reasoning_content is defined and enable_thinking | default(true) %}
    {{- '<think>' + message.reasoning_content + '</think>' }}
  {%- endif %}
  {%- if message.content is string %}{{- message.content }}{%- endif %}
  {%- for call in message.tool_calls or [] %}
    {{- call.function.name + call.function.arguments | tojson(indent=2) + call.id }}
  {%- endfor %}
  {%- if message.name is defined %}{{- ' by ' + message.name }}{%- endif %}
  {%- generation %}{{- '<|im_end|>\n' }}{%- endgeneration %}
  {%- if loop.index > 40 %}{%- break %}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""

TOOLS = "with tools: {{ tools | tojson }}"

json_objects = st.dictionaries(
    st.text(),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
    max_size=4,
)
roles = st.sampled_from(["system", "user", "assistant", "tool"])


messages = st.builds(
    Message,
    role=roles,
    content=st.text(),
    name=st.text(max_size=5),
    tool_calls=st.lists(
        st.builds(ToolCall, st.text(), st.text(), json_objects.map(json.dumps)), max_size=2
    ).map(tuple),
    tool_call_id=st.text(max_size=5),
    reasoning_content=st.none() | st.text(),
)
tools = st.builds(
    Tool,
    name=st.text(),
    description=st.text(),
    parameters_json=json_objects.map(json.dumps),
    strict=st.none() | st.booleans(),
)
chats = st.builds(
    Chat,
    messages=st.lists(messages, min_size=1, max_size=6).map(tuple),
    tools=st.lists(tools, max_size=3).map(tuple),
    add_generation_prompt=st.booleans(),
    template_kwargs_json=st.sampled_from(["", "{}", '{"enable_thinking": false}']),
)


@pytest.fixture(scope="module")
def transformers_own(demo_model: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(demo_model)
    return tokenizer


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


def theirs(tokenizer: PreTrainedTokenizerFast, chat: Chat, template: Any, **more: Any) -> str:
    kwargs: Any = (
        {"enable_thinking": False} if "enable_thinking" in chat.template_kwargs_json else {}
    )
    # Ours changes what the renderer compiled and keeps.
    _compile_jinja_template.cache_clear()
    text = tokenizer.apply_chat_template(
        [spoken(message) for message in chat.messages],
        tools=[offered(tool) for tool in chat.tools] or None,
        chat_template=template,
        tokenize=False,
        **kwargs,
        **more,
    )
    assert isinstance(text, str)
    return text


@given(chat=chats)
@pytest.mark.parametrize("template", [RICH, CHATML, None], ids=["rich", "chatml", "own"])
def test_the_text_is_transformers(
    transformers_own: PreTrainedTokenizerFast, template: str | None, chat: Chat
) -> None:
    own = transformers_own.chat_template
    assert isinstance(own, dict)  # the demo model has one for tools, too
    sources = own if template is None else {"default": template}
    ours = ChatTemplate(sources, special_tokens(transformers_own)).render(chat)
    opens = bool(chat.add_generation_prompt)
    assert ours == theirs(transformers_own, chat, template, add_generation_prompt=opens)


@given(chat=chats, last=st.text(alphabet="ab \n", min_size=1))
def test_a_final_message_left_open_is_transformers(
    transformers_own: PreTrainedTokenizerFast, chat: Chat, last: str
) -> None:
    opened = Chat((*chat.messages, Message("assistant", last)), continue_final_message=True)
    ours = ChatTemplate({"default": CHATML}, {}).render(opened)
    expected = theirs(transformers_own, opened, CHATML, continue_final_message=True)
    assert ours == expected
    assert not expected.endswith("<|im_end|>\n")


def render(source: str, *said: Message, **more: Any) -> str | TemplateRefused:
    return ChatTemplate({"default": source}, {}).render(Chat(said, **more))


HELLO = Message("user", "Hello, my secret")


def test_the_assistant_is_asked_to_answer_unless_told_otherwise() -> None:
    asked = render(CHATML, HELLO)
    assert isinstance(asked, str)
    assert asked.endswith("<|im_start|>assistant\n")
    assert render(CHATML, HELLO, add_generation_prompt=False) == asked.removesuffix(
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "effort", "kwargs", "text"),
    [
        pytest.param("{{ reasoning_effort }}", "low", "", "low", id="effort"),
        pytest.param("{{ enable_thinking }}", "low", "", "True", id="on"),
        pytest.param("{{ enable_thinking }}", "none", "", "False", id="off"),
        pytest.param(
            "{{ reasoning_effort }}", "low", '{"reasoning_effort": "high"}', "high", id="own-words"
        ),
        pytest.param("{{ reasoning_effort is defined }}", "", "", "False", id="not-said"),
    ],
)
def test_effort_is_what_the_template_reads_of_it(
    source: str, effort: str, kwargs: str, text: str
) -> None:
    assert render(source, HELLO, reasoning_effort=effort, template_kwargs_json=kwargs) == text


def test_effort_that_the_template_does_not_read_is_named() -> None:
    refused = render(CHATML, HELLO, reasoning_effort="low")
    assert isinstance(refused, TemplateRefused)
    assert refused.parameter == "reasoning_effort"


@pytest.mark.parametrize("given", ["[1]", '{"tools": []}'], ids=["no-object", "reserved"])
def test_variables_at_fault_are_named(given: str) -> None:
    refused = render(CHATML, HELLO, template_kwargs_json=given)
    assert isinstance(refused, TemplateRefused)
    assert refused.parameter == "template_kwargs_json"


def test_a_template_for_tools_is_used_when_there_are_tools() -> None:
    template = ChatTemplate({"default": "without", "tool_use": TOOLS}, {})
    assert template.render(Chat((HELLO,))) == "without"
    assert template.render(Chat((HELLO,), (Tool("f"),))) == (
        'with tools: [{"type": "function", "function": {"name": "f"}}]'
    )


def test_the_callers_variables_come_before_the_models() -> None:
    template = ChatTemplate({"default": "{{ bos_token }}{{ more }}"}, {"bos_token": "<s>"})
    assert template.render(Chat((HELLO,))) == "<s>"
    chosen = Chat((HELLO,), template_kwargs_json='{"bos_token": "!", "more": [1]}')
    assert template.render(chosen) == "![1]"


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        pytest.param(render(CHATML), "at least one message", id="nobody-said-anything"),
        pytest.param(
            render(RICH, Message("developer", "x")),
            "refused the conversation: Roles must be system, user, assistant or tool.",
            id="the-template-says-why",
        ),
        pytest.param(
            render("{{ raise_exception('No ' + messages[0].content) }}", HELLO),
            "cannot render",
            id="the-template-quotes-the-prompt",
        ),
        pytest.param(render(CHATML, Message("user")), "TypeError", id="content-is-missing"),
        pytest.param(
            render("{{ messages[0].mood.value }}", HELLO), "UndefinedError", id="undefined"
        ),
        pytest.param(render("{{ 1 / 0 }}", HELLO), "ZeroDivisionError", id="arithmetic"),
        pytest.param(
            render("{{ ''.__class__.__mro__ }}", HELLO), "SecurityError", id="out-of-the-sandbox"
        ),
        pytest.param(
            render(CHATML, HELLO, template_kwargs_json="[1]"),
            "the variables of the template must be a JSON object",
            id="variables-are-no-object",
        ),
        pytest.param(
            render(CHATML, HELLO, template_kwargs_json="[" * 100_000),
            "the variables of the template must be a JSON object",
            id="variables-are-too-deep",
        ),
        pytest.param(
            render(CHATML, HELLO, template_kwargs_json='{"messages": []}'),
            "the variables of the template must not set messages",
            id="variables-replace-the-messages",
        ),
        pytest.param(
            render(CHATML, HELLO, template_kwargs_json='{"self": 1}'),
            "TypeError",
            id="a-variable-of-a-forbidden-name",
        ),
        pytest.param(
            render("{{ x }}", HELLO, template_kwargs_json='{"x": "\\ud800"}'),
            "UnicodeEncodeError",
            id="half-a-character",
        ),
        pytest.param(
            render(TOOLS, HELLO, tools=(Tool("f", parameters_json="{"),)),
            "the parameters of a tool must be a JSON object",
            id="parameters-are-no-json",
        ),
        pytest.param(
            render(CHATML, HELLO, add_generation_prompt=True, continue_final_message=True),
            "exclude one another",
            id="answer-and-continue",
        ),
        pytest.param(
            render("nothing", HELLO, continue_final_message=True),
            "cannot leave the last message",
            id="nothing-to-continue",
        ),
    ],
)
def test_refused(refused: str | TemplateRefused, why: str) -> None:
    assert isinstance(refused, TemplateRefused)
    assert why in refused.why
    assert "secret" not in refused.why
