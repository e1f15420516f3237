"""What the tests of the scheduler say in one word."""

from random import Random
from typing import Any

from services.scheduler.facts import Hello, Key, Kind, Pool, Request
from services.scheduler.placement import POLICIES
from services.scheduler.scheduler import Bounds, Scheduler

TTL_S = 3.0
OWNER = 1


def hello(worker_id: str, **said: Any) -> Hello:
    """A worker of model `m` that runs up to eight requests."""
    usual: dict[str, Any] = {
        "address": f"{worker_id}:1",
        "epoch": 1,
        "kind": Kind.GENERATE,
        "models": ("m", "alias"),
        "block_size": 4,
        "capacity_blocks": 100,
        "max_running": 8,
        "step_budget_tokens": 2048,
        "max_model_tokens": 200,
    }
    return Hello(worker_id=worker_id, **(usual | said))


def request(request_id: str = "r", **said: Any) -> Request:
    """A request of eleven prompt tokens for model `m`."""
    usual: dict[str, Any] = {
        "owner": OWNER,
        "model": "m",
        "adapter": "",
        "kind": Kind.GENERATE,
        "prompt_tokens": 11,
        "max_tokens": 5,
        "block_size": 4,
    }
    usual |= said
    pool = Pool(usual.pop("model"), usual.pop("adapter"), usual.pop("kind"))
    return Request(key=Key(usual.pop("owner"), request_id), pool=pool, **usual)


def scheduler(policy: str = "predicted", **bounds: int) -> Scheduler:
    """An empty scheduler."""
    return Scheduler(POLICIES[policy](Random(0)), TTL_S, Bounds(**bounds))


def fleet_of(*hellos: Hello, policy: str = "predicted", **bounds: int) -> Scheduler:
    """A scheduler whose workers have joined."""
    core = scheduler(policy, **bounds)
    for said in hellos:
        core.join(said, now_s=0.0)
    return core
