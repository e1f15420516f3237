"""The four services, and what they share: the hash chain, settings, serving."""

import os

# gRPC's core writes a line of its own for each error that it also raises. It reads this once,
# when it is first imported, so no later place will do.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
