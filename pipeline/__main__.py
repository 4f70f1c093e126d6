"""The command line: `python -m pipeline generate | download | doctor | jobs | bench`."""

import argparse
import logging
import signal
import sys

from pipeline.commands import bench, doctor, download, generate, jobs
from pipeline.errors import UserError
from pipeline.logs import log_to_stderr
from pipeline.machine import is_follower

logger = logging.getLogger(__name__)

COMMANDS = (generate, download, doctor, jobs, bench)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 1 for a failure, 2 for a request that is wrong.

    Under torchrun the first process does that, and the others compute along.
    """
    if is_follower():
        from pipeline.model.parallel import follow_leader

        return follow_leader()
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Talking videos with Wan2.2-S2V.")
    parser.add_argument("--verbose", action="store_true", help="log what is done, and where an unexpected error arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING, "%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # that, too, ends without leaving anything behind
    try:
        return options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    except Exception as error:
        if options.verbose:
            logger.exception("An unexpected error")
        what = f"{type(error).__name__}: {error}"
        print(
            f"Something went wrong inside the program ({what}); --verbose before the command says where.",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
