"""Whether a stream that lost its worker can go on, and be the same stream. Pure.

Before the first token nothing can be lost. After it, the next worker gets prompt and generated
tokens as its prompt; that continues a request exactly unless its next token also depends on
state that died with the worker.
"""

from headway.worker.v1 import worker_pb2 as pb


def obstacle(sampling: pb.Sampling, parsing: pb.Parsing | None = None) -> str | None:
    """What keeps a stream of this kind from going on elsewhere; None when nothing does."""
    if sampling.choices > 1:
        return "it has several choices"
    if sampling.HasField("constraint"):
        return "its output is constrained"
    if parsing is not None and _holds_calls(parsing):
        return "its tool calls are constrained"
    is_greedy = sampling.HasField("temperature") and sampling.temperature == 0
    if sampling.HasField("seed") and not is_greedy:
        return "it samples with a seed"
    if sampling.presence_penalty or sampling.frequency_penalty:
        return "it has penalties on what was generated"
    return None


def _holds_calls(parsing: pb.Parsing) -> bool:
    """Whether the worker holds calls to their schemas: see docs/adr/0001."""
    if parsing.tool_choice in (pb.TOOL_CHOICE_REQUIRED, pb.TOOL_CHOICE_NAMED):
        return True
    if parsing.tool_choice != pb.TOOL_CHOICE_AUTO:
        return False
    return parsing.single_call or any(tool.strict for tool in parsing.tools)
