"""`doctor`: what this machine is, what will not work on it, and what to do."""

import argparse
from typing import Any

from pipeline.machine import look_at_gpu
from pipeline.preflight import ACTION, findings, plan_start, unfit


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("doctor", help="say what this machine is, what will not work and what to do")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the findings, those that need action marked with an exclamation mark.

    Gives the exit status of a start that its settings keep from being one, else 0.
    """
    start, gpu = plan_start(forgiving=True), look_at_gpu()
    for line in findings(start, gpu):
        print(line)
    for reason in (start.trouble, unfit(start.entry, gpu)):
        if reason is not None:
            print(f"{ACTION}{reason}")
    return start.trouble.exit_status if start.trouble else 0
