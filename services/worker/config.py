"""The worker's settings."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Read once, from the variables `WORKER_…`."""

    model: str  # directory or Hugging Face id; the simulator needs tokenizer.json alone
    model_names: tuple[str, ...]  # the first is the main one
    scheduler: str  # host:port
    id: str = "worker-0"
    listen: str = "127.0.0.1:50053"
    address: str = ""  # at which edges reach it; empty: as it listens
    metrics_listen: str = ""  # host:port; empty: none
    engine: str = "vllm"
    kind: str = "generate"
    sim: str = ""  # KEY=VALUE,…
    cpu_core: str = ""  # pin to this core; empty: none
    dtype: str = ""  # empty: float32 on the CPU, else the model's own
    block_size: int = 0  # 0: 32 on the CPU, else vLLM's choice
    max_model_len: int = 0  # 0: what the model allows and the cache holds
    kv_cache_bytes: int = 0  # 0: 384 MiB on the CPU, else what memory is left
    max_running: int = 0  # 0: 16 on the CPU, else vLLM's choice
    adapters: str = ""  # name=/path;name=/path; the simulator needs the names alone
    max_loras: int = 0  # adapters loaded at once; 0: all there are, 4 at most
    tool_parser: str = ""  # vLLM's name; empty: by the model's template; none: no tools
    reasoning_parser: str = ""  # vLLM's name; empty: by the model's name; none: all is text
    drain_s: float = 4.0  # running requests get this long to end

    def __post_init__(self) -> None:
        _one_of("WORKER_ENGINE", self.engine, ("vllm", "sim"))
        _one_of("WORKER_KIND", self.kind, ("generate", "embed"))
        _not_empty("WORKER_MODEL", self.model)
        _not_empty("WORKER_MODEL_NAMES", ",".join(self.model_names))
        _not_empty("WORKER_ID", self.id)
        _address("WORKER_LISTEN", self.listen)
        _address("WORKER_SCHEDULER", self.scheduler)
        for name in ("address", "metrics_listen"):
            if getattr(self, name):
                _address(f"WORKER_{name.upper()}", getattr(self, name))
        for name in _SIZES:
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"WORKER_{name.upper()} must be 0 or more, got {getattr(self, name)}"
                )
        if self.cpu_core and not self.cpu_core.isdecimal():
            raise ValueError(f"WORKER_CPU_CORE must be a number, got {self.cpu_core!r}")
        if self.listens_everywhere and not self.address:
            raise ValueError("WORKER_ADDRESS must be set: nobody can reach WORKER_LISTEN's host")
        self._check_adapters()

    @property
    def adapter_paths(self) -> Mapping[str, str]:
        """Where each adapter is, by name."""
        return dict(self._adapter_parts())

    def _adapter_parts(self) -> list[tuple[str, str]]:
        parts = (part.partition("=") for part in self.adapters.split(";") if part)
        return [(name, path) for name, _, path in parts]

    def _check_adapters(self) -> None:
        names = [name for name, _ in self._adapter_parts()]
        for name in names:
            _not_empty("the name of an adapter in WORKER_ADAPTERS", name)
            if names.count(name) > 1 or name in self.model_names:
                raise ValueError(f"WORKER_ADAPTERS: the name {name!r} is taken already")
        if names and self.kind != "generate":
            raise ValueError("WORKER_ADAPTERS is for workers that generate")

    @property
    def listens_everywhere(self) -> bool:
        """Whether the address listened on names no host."""
        return self.listen.rpartition(":")[0] in ("", "0.0.0.0", "[::]")


_SIZES = (
    "block_size",
    "max_model_len",
    "kv_cache_bytes",
    "max_running",
    "max_loras",
    "drain_s",
)


def _one_of(variable: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{variable} must be one of {', '.join(known)}, got {value!r}")


def _not_empty(variable: str, value: str) -> None:
    if not value:
        raise ValueError(f"{variable} must not be empty")


def _address(variable: str, value: str) -> None:
    port = value.rpartition(":")[2]
    if ":" not in value or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{variable} must be host:port, got {value!r}")
