"""What to try once the system runs. Pure."""

from collections.abc import Iterator


def after_start(port: int, model: str) -> Iterator[str]:
    """Commands that work as they stand."""
    url = f"http://127.0.0.1:{port}"
    yield ""
    yield f"Headway serves {model} on {url}. Try:"
    yield ""
    yield f"  curl {url}/v1/chat/completions -H 'content-type: application/json' \\"
    yield (
        f'    -d \'{{"model": "{model}", "messages": '
        '[{"role": "user", "content": "What is the capital of France?"}]}\''
    )
    yield "  headway trace      where the last request's time to first token went"
    yield "  headway workers    the fleet"
    yield "  headway ps         the processes"
    yield ""
