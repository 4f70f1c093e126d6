"""`jobs`: what the operator sees, all jobs of the output folder, whoever asked for them."""

import argparse
from datetime import datetime
from typing import Any

from pipeline.jobs.folder import stored_jobs
from pipeline.machine import output_folder
from pipeline.settings import read_settings


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("jobs", help="list all jobs of the output folder, oldest first")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line per job: id, when, state, clips that are done, message."""
    folder = output_folder(read_settings()) / "jobs"
    stored = stored_jobs(folder) if folder.is_dir() else []
    for job in stored:
        status = job.status
        when = datetime.fromtimestamp(job.submitted_at).strftime("%Y-%m-%d %H:%M")
        print(f"{status.job}  {when}  {status.state:<9}  {job.ready}/{status.clips} clips  {status.message}")
    if not stored:
        print(f"There are no jobs in {folder}.")
    return 0
