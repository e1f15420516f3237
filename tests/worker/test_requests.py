"""Which requests a worker takes, and what its engine is to run for them."""

from dataclasses import replace

import pytest

from services.worker.engine import Constraint, ConstraintKind, Sampling
from services.worker.requests import (
    Accepted,
    Failure,
    FailureKind,
    Limits,
    Request,
    accept,
    accept_input,
    runs,
)
from services.worker.text import Stop

LIMITS = Limits(("main", "alias"), max_model_tokens=10, vocabulary_size=100, adapters=("poet",))
REQUEST = Request(request_id="r", model="main", prompt=[1, 2, 3], sampling=Sampling())


def asking(**changes: object) -> Request:
    sampling = {name: value for name, value in changes.items() if name in Sampling.__slots__}
    others = {name: value for name, value in changes.items() if name not in sampling}
    return replace(REQUEST, sampling=replace(REQUEST.sampling, **sampling), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "max_tokens"),
    [
        pytest.param(asking(), 7, id="no-limit-is-what-the-context-leaves"),
        pytest.param(asking(max_tokens=7), 7, id="exactly-what-the-context-leaves"),
        pytest.param(asking(model="alias"), 7, id="an-alias"),
        pytest.param(asking(adapter="poet"), 7, id="an-adapter"),
        pytest.param(asking(prompt=[99] * 9), 1, id="room-for-one"),
        pytest.param(asking(generated=[1, 2], max_tokens=4), 4, id="a-resumption"),
        pytest.param(asking(choices=128), 7, id="many-choices"),
    ],
)
def test_accepted(request_: Request, max_tokens: int) -> None:
    assert accept(request_, LIMITS) == Accepted(request_, max_tokens)


A_FORM = Constraint(ConstraintKind.REGEX, ("a",))


@pytest.mark.parametrize(
    ("request_", "kind", "parameter"),
    [
        pytest.param(asking(model="x"), FailureKind.NOT_SERVED, "model", id="unknown-model"),
        pytest.param(asking(adapter="x"), FailureKind.NOT_SERVED, "adapter", id="unknown-adapter"),
        pytest.param(asking(prompt=[]), FailureKind.INVALID, "prompt", id="empty"),
        pytest.param(asking(prompt=[100]), FailureKind.INVALID, "prompt", id="no-such-token"),
        pytest.param(
            asking(prompt=[1] * 10), FailureKind.INVALID, "prompt", id="fills-the-context"
        ),
        pytest.param(asking(max_tokens=8), FailureKind.INVALID, "max_tokens", id="too-many"),
        pytest.param(asking(max_tokens=0), FailureKind.INVALID, "max_tokens", id="none-at-all"),
        pytest.param(
            asking(max_tokens=2, min_tokens=3), FailureKind.INVALID, "min_tokens", id="min-over-max"
        ),
        pytest.param(
            asking(min_tokens=8), FailureKind.INVALID, "min_tokens", id="min-over-the-context"
        ),
        pytest.param(asking(generated=[100]), FailureKind.INVALID, "generated", id="resumed-badly"),
        pytest.param(asking(temperature=2.1), FailureKind.INVALID, "temperature", id="too-hot"),
        pytest.param(
            asking(temperature=float("nan")), FailureKind.INVALID, "temperature", id="not-a-number"
        ),
        pytest.param(asking(top_p=0.0), FailureKind.INVALID, "top_p", id="no-mass"),
        pytest.param(asking(min_p=1.1), FailureKind.INVALID, "min_p", id="min_p"),
        pytest.param(
            asking(presence_penalty=-3.0), FailureKind.INVALID, "presence_penalty", id="presence"
        ),
        pytest.param(
            asking(repetition_penalty=0.0),
            FailureKind.INVALID,
            "repetition_penalty",
            id="repetition",
        ),
        pytest.param(asking(choices=129), FailureKind.INVALID, "choices", id="too-many-choices"),
        pytest.param(asking(logprobs=21), FailureKind.INVALID, "logprobs", id="too-many-logprobs"),
        pytest.param(
            asking(logit_bias={100: 1.0}), FailureKind.INVALID, "logit_bias", id="bias-on-no-token"
        ),
        pytest.param(
            asking(logit_bias={1: 101.0}), FailureKind.INVALID, "logit_bias", id="bias-too-large"
        ),
        pytest.param(
            asking(stop_token_ids=(100,)), FailureKind.INVALID, "stop_token_ids", id="no-such-stop"
        ),
        pytest.param(asking(stop=Stop(("",))), FailureKind.INVALID, "stop", id="stop-at-nothing"),
        pytest.param(
            asking(generated=[1], choices=2), FailureKind.INVALID, "generated", id="resume-two"
        ),
        pytest.param(
            asking(generated=[1], presence_penalty=1.0),
            FailureKind.INVALID,
            "generated",
            id="resume-with-penalties",
        ),
        pytest.param(
            asking(generated=[1], constraint=A_FORM),
            FailureKind.INVALID,
            "generated",
            id="resume-within-a-form",
        ),
    ],
)
def test_refused(request_: Request, kind: FailureKind, parameter: str) -> None:
    failure = accept(request_, LIMITS)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.parameter) == (kind, parameter)


@pytest.mark.parametrize(
    ("model", "tokens", "parameter"),
    [
        pytest.param("main", [1], None, id="fits"),
        pytest.param("x", [1], "model", id="unknown-model"),
        pytest.param("main", [], "input", id="empty"),
        pytest.param("main", [100], "input", id="no-such-token"),
        pytest.param("main", [1] * 11, "input", id="too-long"),
    ],
)
def test_inputs_to_embed(model: str, tokens: list[int], parameter: str | None) -> None:
    failure = accept_input(model, tokens, LIMITS)
    assert (failure.parameter if failure else None) == parameter


def test_each_sampled_choice_is_a_run() -> None:
    each = runs(Accepted(asking(choices=3), 7))
    assert [(run.run_id, run.choice) for run in each] == [("r", 0), ("r#1", 1), ("r#2", 2)]


def test_equal_choices_run_once() -> None:
    assert len(runs(Accepted(asking(choices=3, temperature=0.0), 7))) == 1


def test_a_resumed_run_has_less_to_do() -> None:
    (run,) = runs(Accepted(asking(generated=[4, 5], min_tokens=3), 7))
    assert (run.tokens, run.generated) == ([1, 2, 3, 4, 5], 2)
    assert (run.max_tokens, run.min_tokens) == (5, 1)
