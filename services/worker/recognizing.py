"""Which of vLLM's parsers reads a model's calls and reasoning, by its template or name. Pure.

Marks in a chat template say it best: they are what the model was taught to write. The first row
that matches decides.
"""

# What a template holds, and the parser of calls that are written so.
_CALL_MARKS = (
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("['name'] + '<｜tool▁sep｜>'", "deepseek_v31"),  # noqa: RUF001 (older ones have a type there)
    ("<｜tool▁calls▁begin｜>", "deepseek_v3"),  # noqa: RUF001 (these are its bars)
    ("<longcat_tool_call>", "longcat"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<|tool_list_start|>", "lfm2"),
    ("<start_function_call>", "functiongemma"),
    ("<arg_key>", "glm45"),
    ("<seed:tool_call>", "seed_oss"),
    ("<function_calls>", "olmo3"),
    ("<|action_start|>", "internlm"),
    ("<function=", "qwen3_coder"),
    ("<|channel|>", "openai"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
    ("Environment: ipython", "llama3_json"),
    ("functools[", "phi4_mini_json"),
    ("<tool_call>", "hermes"),
)
CALL_MARKS = tuple(mark for mark, _ in _CALL_MARKS)
"""What calls begin with, in one model or another, or its template tells of them."""

# What a name holds, and the parser of a model that reasons.
_REASONING_NAMES = (
    ("deepseek-r1", "deepseek_r1"),
    ("qwq", "deepseek_r1"),
    ("qwen3", "qwen3"),
    ("glm-4", "glm45"),
    ("gpt-oss", "openai_gptoss"),
    ("kimi-k2-thinking", "kimi_k2"),
    ("minimax-m2", "minimax_m2"),
    ("magistral", "mistral"),
    ("olmo-3", "olmo3"),
    ("seed-oss", "seed_oss"),
)
_REASONING_MARKS = ("<think>", "<|channel|>", "[THINK]", "<seed:think>")
# Needs no special token, and shows in its constraint what a call looks like.
_OTHERWISE = "hermes"


def tool_parser(template: str) -> str:
    """The parser for the calls of a model with this chat template."""
    return next((parser for mark, parser in _CALL_MARKS if mark in template), _OTHERWISE)


def reasoning_parser(name: str, template: str) -> str:
    """The parser for the reasoning of a model of this name; empty for one that has none."""
    if not any(mark in template for mark in _REASONING_MARKS):
        return ""
    known = name.lower()
    return next((parser for part, parser in _REASONING_NAMES if part in known), "")
