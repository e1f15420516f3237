"""The tokenizer's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model to hold: the names it answers to, the main one first, and its directory."""

    name: str
    aliases: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Read once, from the variables `TOKENIZER_…`."""

    models: str  # name|alias|alias=directory, separated by semicolons
    listen: str = "127.0.0.1:50051"
    metrics_listen: str = ""  # host:port; empty: none
    block_size: int = 16  # tokens in a block of the hash chain; the workers' engines use the same
    threads: int = 0  # encode at the same time; 0: one for each core
    segment_cache_bytes: int = 32 * 2**20  # for each model; 0: no cache
    hash_cache_bytes: int = 32 * 2**20  # for each model; 0: no cache
    drain_s: float = 4.0  # running calls get this long to end

    def __post_init__(self) -> None:
        read_sources(self.models)
        _address("TOKENIZER_LISTEN", self.listen)
        if self.metrics_listen:
            _address("TOKENIZER_METRICS_LISTEN", self.metrics_listen)
        if self.block_size < 1:
            raise ValueError(f"TOKENIZER_BLOCK_SIZE must be positive, got {self.block_size}")
        for name in ("threads", "segment_cache_bytes", "hash_cache_bytes", "drain_s"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"TOKENIZER_{name.upper()} must be 0 or more, got {value}")

    @property
    def sources(self) -> tuple[ModelSource, ...]:
        """The models to hold."""
        return read_sources(self.models)


def read_sources(models: str) -> tuple[ModelSource, ...]:
    """Read `TOKENIZER_MODELS`. Raises ValueError with a line for the operator."""
    sources = tuple(_source(part.strip()) for part in models.split(";") if part.strip())
    if not sources:
        raise ValueError("TOKENIZER_MODELS must name a model: name|alias=directory")
    names = [name for source in sources for name in (source.name, *source.aliases)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"TOKENIZER_MODELS gives the name {twice[0]!r} twice")
    return sources


def _source(text: str) -> ModelSource:
    names, equals, path = text.partition("=")
    name, *aliases = (part.strip() for part in names.split("|"))
    if not (equals and path and name and all(aliases)):
        raise ValueError(f"TOKENIZER_MODELS must be name|alias=directory, got {text!r}")
    return ModelSource(name, tuple(aliases), path.strip())


def _address(variable: str, value: str) -> None:
    port = value.rpartition(":")[2]
    if ":" not in value or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{variable} must be host:port, got {value!r}")
