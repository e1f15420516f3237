"""The gateways by the names that tables use."""

from collections.abc import Mapping

from bench.overhead import headway, peers, vllm
from bench.overhead.gateway import Start

DIRECT, SMG_GRPC, HEADWAY = "direct", "smg-grpc", "headway"
TWO_EDGES = "headway-2-edges"
VLLM_SERVE, HEADWAY_VLLM = "vllm-serve", "headway-vllm"

GATEWAYS: Mapping[str, Start] = {
    DIRECT: peers.direct,
    "smg-http": peers.smg_http,
    SMG_GRPC: peers.smg_grpc,
    "vllm-router": peers.vllm_router,
    "litellm": peers.litellm,
    HEADWAY: headway.headway,
    TWO_EDGES: headway.two_edges,
    VLLM_SERVE: vllm.vllm_serve,
    HEADWAY_VLLM: vllm.headway_vllm,
}
