import pytest

from command.arguments import parser
from command.errors import CommandError
from command.options import POLICIES, SIM_KEYS, Options, check_sim, sim_block_size
from services.scheduler import placement


def options(*flags: str) -> Options:
    return Options.read(parser().parse_args(["up", *flags]))


def test_the_default_is_real() -> None:
    assert options() == Options()
    assert Options().engine == "vllm"


def test_the_simulator_needs_no_embedding_worker() -> None:
    assert options("--engine", "sim").embedding_workers == 0
    assert options("--engine", "sim", "--embedding-workers", "1").embedding_workers == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param("--workers 0", "--workers must be at least 1", id="no-worker"),
        pytest.param("--embedding-workers -1", "--embedding-workers must be", id="negative"),
        pytest.param("--edges 0", "--edges must be at least 1", id="no-edge"),
        pytest.param("--tokenizers 0", "--tokenizers must be at least 1", id="no-tokenizer"),
        pytest.param("--port 70000", "--port must be 1 to 65535", id="no-such-port"),
        pytest.param("--policy best", "--policy best is not known", id="policy"),
        pytest.param("--sim base_ms=1", "--sim needs --engine sim", id="sim-of-vllm"),
        pytest.param(
            "--engine sim --tool-parser hermes", "--tool-parser and", id="parser-of-the-simulator"
        ),
        pytest.param("--engine sim --sim speed=1", "--sim speed is not known", id="sim-key"),
        pytest.param("--engine sim --sim base_ms", "--sim base_ms must be a number", id="no-value"),
        pytest.param("--engine sim --sim base_ms=-1", "--sim base_ms must be", id="below-zero"),
        pytest.param("--engine sim --sim base_ms=nan", "--sim base_ms must be", id="no-number"),
        pytest.param("--adapter poet", "--adapter must be NAME=PATH", id="no-path"),
        pytest.param("--adapter a=/a;b=/b", "--adapter a=/a;b=/b holds a `;`", id="two-in-one"),
        pytest.param("--start-timeout 0", "--start-timeout must be positive", id="no-time"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(flags: str, says: str) -> None:
    with pytest.raises(CommandError) as refused:
        options(*flags.split())
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


def test_every_documented_key_of_the_simulator_is_known() -> None:
    check_sim(",".join(f"{key}=1" for key in SIM_KEYS))


@pytest.mark.parametrize(
    ("sim", "block_size"),
    [("", "16"), ("base_ms=1", "16"), ("base_ms=1,block_size=4", "4")],
    ids=["default", "not-said", "said"],
)
def test_the_block_size_of_the_simulator(sim: str, block_size: str) -> None:
    assert sim_block_size(sim) == block_size


def test_the_policies_are_those_of_the_scheduler() -> None:
    assert set(POLICIES) == set(placement.POLICIES)
