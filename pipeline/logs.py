"""The program's log, on standard error: a job's id is the key to the job, so only its beginning is ever told."""

import logging
import re
import sys

# Of a job, and of a copy of its files that is served.
KEY = re.compile(r"(?<![0-9a-f])([0-9a-f]{8})(?:[0-9a-f]{24}|[0-9a-f]{56})(?![0-9a-f])")


class KeylessFormatter(logging.Formatter):
    """Cuts every key to its first 8 characters: messages of libraries and tracebacks name files by their paths."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one."""
        return KEY.sub(r"\1", super().format(record))


def log_to_stderr(level: int, line: str) -> None:
    """Write what is of `level` and above, each in the form `line`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeylessFormatter(line))
    logging.basicConfig(level=level, handlers=[handler])
