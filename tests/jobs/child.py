"""A program of its own that works on a folder of jobs, to be killed.

`python -m tests.jobs.child JOBS WORKERS` says of each job that is worked on when it is within clip 2.
"""

import os
import sys
from pathlib import Path

from pipeline.events import Event
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.team import Team

from .scripted import Script, at_step


def wait_to_be_killed(event: Event) -> None:
    """Say so in the middle of clip 2, and wait for what will not come."""
    if at_step(2, 2)(event):
        os.write(1, b"within clip 2\n")  # at once: jobs that are worked on side by side say so at the same moment
        sys.stdin.read()


jobs, workers = Path(sys.argv[1]), int(sys.argv[2])
Team(JobQueue(jobs, 20, 10, 7), [Script(wait_to_be_killed).prepare for _ in range(workers)]).start()
sys.stdin.read()
