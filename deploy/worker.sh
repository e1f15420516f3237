#!/bin/sh
# A container of a replicated service learns its name and address only when it runs.
set -eu
export WORKER_ID="${WORKER_ID:-worker-$(hostname)}"
export WORKER_ADDRESS="${WORKER_ADDRESS:-$(hostname -i | cut -d' ' -f1):${WORKER_LISTEN##*:}}"
exec python -m services.worker
