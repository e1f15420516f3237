"""Which parsers a model suggests."""

import pytest

from services.worker.recognizing import reasoning_parser, tool_parser


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        pytest.param("{{ '<|im_start|>' }}", "hermes", id="a-template-that-says-nothing"),
        pytest.param('… <tool_call>\n{"name": …}\n</tool_call>', "hermes", id="hermes"),
        pytest.param("<tool_call>\n<function=f>", "qwen3_coder", id="xml-in-the-same-tag"),
        pytest.param("<seed:tool_call>\n<function=f>", "seed_oss", id="xml-in-a-tag-of-its-own"),
        pytest.param("<tool_call>f<arg_key>", "glm45", id="glm"),
        pytest.param("Environment: ipython", "llama3_json", id="llama"),
        pytest.param("[TOOL_CALLS]", "mistral", id="mistral"),
    ],
)
def test_the_template_tells_how_calls_are_written(template: str, parser: str) -> None:
    assert tool_parser(template) == parser


@pytest.mark.parametrize(
    ("name", "template", "parser"),
    [
        pytest.param("smollm2", "", "", id="does-not-reason"),
        pytest.param("Qwen3-8B", "<think>\n\n</think>", "qwen3", id="qwen3"),
        pytest.param("Qwen3-Coder", "<tool_call>", "", id="its-template-has-no-reasoning"),
        pytest.param("DeepSeek-R1-Distill-Qwen-7B", "<think>", "deepseek_r1", id="r1"),
        pytest.param("unheard-of", "<think>", "", id="nobody-knows"),
    ],
)
def test_the_name_tells_how_it_reasons(name: str, template: str, parser: str) -> None:
    assert reasoning_parser(name, template) == parser
