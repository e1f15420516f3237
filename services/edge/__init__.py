"""The edge: OpenAI's HTTP and SSE outside, Headway's gRPC inside."""
