"""What to try once the system runs. Pure."""

from collections.abc import Iterator


def after_start(port: int, model: str, program: str) -> Iterator[str]:
    """Commands that work as they stand; `program` is how to call this command."""
    url = f"http://127.0.0.1:{port}"
    question = '[{"role": "user", "content": "What is the capital of France?"}]'
    body = f'{{"model": "{model}", "temperature": 0, "messages": {question}}}'
    yield ""
    yield f"Headway serves {model} on {url}. Try:"
    yield ""
    yield f"  curl {url}/v1/chat/completions -H 'content-type: application/json' \\"
    yield f"    -d '{body}'"
    yield f"  {program} trace      where the last request's time to first token went"
    yield f"  {program} workers    the fleet"
    yield f"  {program} ps         the processes"
    yield ""
