"""That vLLM alone and vLLM behind Headway are set alike."""

import re

from bench.overhead.children import ROOT
from bench.overhead.vllm import ENVIRONMENT, SETTINGS, SWITCHES

# Read and not imported: that would import vLLM.
SOURCE = (ROOT / "services" / "worker" / "vllm_process.py").read_text()


def constant(name: str) -> str:
    found = re.search(rf"^{name} = ([\d <]+\d)", SOURCE, re.MULTILINE)
    assert found is not None
    number, _, shift = found[1].partition(" << ")
    return str(int(number) << int(shift or 0))


def test_sizes_are_the_workers() -> None:
    assert SETTINGS["block-size"] == constant("_CPU_BLOCK_SIZE")
    assert SETTINGS["kv-cache-memory-bytes"] == constant("_CPU_KV_CACHE_BYTES")
    assert SETTINGS["max-num-seqs"] == constant("_CPU_MAX_RUNNING")


def test_all_else_is_in_the_workers_source() -> None:
    for name in ("dtype", "max-model-len", "prefix-caching-hash-algo", "scheduling-policy"):
        assert f'"{name.replace("-", "_")}"' in SOURCE
        assert SETTINGS[name] in SOURCE
    for name in set(SWITCHES) - {"disable-uvicorn-access-log"}:
        assert f'"{name.replace("-", "_")}": ' in SOURCE
    for name in set(ENVIRONMENT) - {"HF_HUB_OFFLINE"}:
        assert f'"{name}"' in SOURCE
