"""Our sampling in vLLM's words, and vLLM's outputs in ours."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.exceptions import VLLMClientError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from services.worker.engine import (
    Constraint,
    ConstraintKind,
    End,
    EndReason,
    EngineBroken,
    EngineRefused,
    Run,
    TokenLogprob,
    TokenLogprobs,
)
from services.worker.vllm_schemas import passed_over

# Such as "[17:38:49] /project/cpp/regex_converter.cc:83: ".
_SOURCE_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+: ")
_REASONS = {
    "stop": EndReason.STOPPED,
    "length": EndReason.LENGTH,
    "abort": EndReason.ABORTED,
    "repetition": EndReason.STOPPED,
}


def sampling_params(run: Run) -> SamplingParams:
    """What vLLM is to do for a run. Raises vLLM's own errors for what it refuses."""
    sampling = run.sampling
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=_seed(run),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        max_tokens=run.max_tokens,
        min_tokens=run.min_tokens,
        logprobs=sampling.logprobs,
        # A caller that resumes has them already, and asking skips the prefix cache.
        prompt_logprobs=None if run.generated else sampling.prompt_logprobs,
        logit_bias=dict(sampling.logit_bias) or None,
        structured_outputs=structured(sampling.constraint) if sampling.constraint else None,
        detokenize=False,  # vLLM would decode the whole prompt again on the event loop
        output_kind=RequestOutputKind.DELTA,
    )


def _seed(run: Run) -> int | None:
    """Each choice, and each resumption, draws its own numbers: documented in the README."""
    seed = run.sampling.seed
    return None if seed is None else (seed + run.choice + run.generated) % 2**63


def structured(constraint: Constraint) -> StructuredOutputsParams:
    """A constraint in vLLM's words. Raises EngineRefused, and vLLM's own errors."""
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return StructuredOutputsParams(json=_checked_schema(constraint.texts[0]))
        case ConstraintKind.ANY_JSON_OBJECT:
            return StructuredOutputsParams(json_object=True)
        case ConstraintKind.REGEX:
            return StructuredOutputsParams(regex=constraint.texts[0])
        case ConstraintKind.GRAMMAR:
            return StructuredOutputsParams(grammar=constraint.texts[0])
        case ConstraintKind.TEXTS:
            return StructuredOutputsParams(choice=list(constraint.texts))
        case ConstraintKind.STRUCTURAL_TAG:
            return StructuredOutputsParams(structural_tag=_checked_json(constraint.texts[0]))


def _checked_schema(text: str) -> str:
    gap = passed_over(_read_json(text))
    if gap:
        raise EngineRefused(f"the JSON schema cannot be followed: {gap}", "constraint")
    return text


def _checked_json(text: str) -> str:
    _read_json(text)
    return text


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineRefused("the constraint is no JSON text", "constraint") from error


def refusal(error: VLLMClientError) -> EngineRefused:
    """vLLM's refusal, without the places in its source that it names."""
    message = _SOURCE_PLACE.sub("", str(error.args[0])).strip()
    named: str | None = getattr(error, "parameter", None)
    is_grammar = any(word in message for word in ("grammar", "schema", "regex", "structural tag"))
    return EngineRefused(message, named or ("constraint" if is_grammar else ""))


def read_end(output: CompletionOutput) -> End | None:
    """How vLLM ended a run, if it did."""
    if output.finish_reason is None:
        return None
    if output.finish_reason not in _REASONS:
        raise EngineBroken(f"vLLM ended the run with {output.finish_reason!r}")
    stop = output.stop_reason
    return End(_REASONS[output.finish_reason], stop if isinstance(stop, int) else None)


def read_logprobs(
    token_ids: Sequence[int], logprobs: Any, alternatives: int | None
) -> tuple[TokenLogprobs, ...]:
    """vLLM's log-probabilities, one for each token; none when they were not asked for."""
    if alternatives is None or logprobs is None:
        return ()
    pairs = zip(token_ids, logprobs, strict=True)
    return tuple(_read_position(token_id, each, alternatives) for token_id, each in pairs)


def _read_position(
    token_id: int, position: Mapping[int, Logprob] | None, alternatives: int
) -> TokenLogprobs:
    if position is None:  # a prompt's first token
        return TokenLogprobs(TokenLogprob(token_id, None), ())
    ranked = sorted(position.items(), key=lambda item: item[1].rank or 0)
    top = tuple(TokenLogprob(each, value.logprob) for each, value in ranked[:alternatives])
    own = position[token_id]
    return TokenLogprobs(TokenLogprob(token_id, own.logprob), top, own.rank)
