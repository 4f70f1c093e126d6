"""The serverless worker as it is, but that it fetches from this machine: `python -m tests.serverless.program`."""

import logging

from pipeline.serverless import build_worker, serve

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    serve(build_worker(is_allowed=lambda address: address.is_loopback))
