"""The command line: `python -m pipeline generate | download | doctor | jobs`."""

import argparse
import logging
import sys

from pipeline.commands import doctor, download, generate, jobs
from pipeline.errors import UserError

COMMANDS = (generate, download, doctor, jobs)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 1 for a failure, 2 for a request that is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Talking videos with Wan2.2-S2V.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    except Exception as error:
        logging.getLogger(__name__).debug("unexpected", exc_info=True)
        print(f"Something went wrong inside the program ({type(error).__name__}: {error}).", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
