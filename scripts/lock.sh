#!/usr/bin/env bash
# Renew requirements.lock, the image's environment: scripts/lock.sh [--upgrade]   (needs uv: pip install uv)
# Without --upgrade what is locked stays, as far as the requirements allow it.
set -euo pipefail
cd "$(dirname "$0")/.."
exec uv pip compile requirements-serverless.txt --output-file requirements.lock \
    --python-version 3.12 --python-platform x86_64-unknown-linux-gnu --no-config \
    --no-build --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command scripts/lock.sh "$@"
