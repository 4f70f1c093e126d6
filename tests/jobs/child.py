"""A program of its own that works on a folder of jobs, to be killed: `child.py JOBS` says when it is within clip 2."""

import sys
from pathlib import Path

from scripted import Script, at_step

from pipeline.events import Event
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker


def wait_to_be_killed(event: Event) -> None:
    """Say so in the middle of clip 2, and wait for what will not come."""
    if at_step(2, 2)(event):
        print("within clip 2", flush=True)
        sys.stdin.read()


worker = Worker(JobQueue(Path(sys.argv[1]), 20, 10, 7), Script(wait_to_be_killed).prepare)
worker.start()
sys.stdin.read()
