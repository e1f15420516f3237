"""Load on a running system, by HTTP or on the inner services by gRPC."""
