"""The program: reads its settings, starts the queue and the workers, and serves the page until it is told to end."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InvalidSetting, UserError
from pipeline.events import ModelState
from pipeline.importing import importing
from pipeline.logs import log_to_stderr
from pipeline.machine import asks_first, is_follower, is_hosted, public_url
from pipeline.preflight import Start, elsewhere, plan_start, require_machine
from pipeline.settings import Settings
from pipeline.sole_use import sole_use
from pipeline.uploads import uploads_folder

if TYPE_CHECKING:
    from pipeline.jobs.queue import JobQueue


def main() -> int:
    """Serve until the end; gives the exit status."""
    log_to_stderr(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    if is_follower():
        from pipeline.model.parallel import follow_leader

        return follow_leader()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals end the program in the same clean way
    try:
        start = plan_start(forgiving=is_hosted())
        # On a hosted machine the folder may lie on a volume that a pod has that is about to end: its lock is no reason
        # not to start.
        own = nullcontext() if is_hosted() else sole_use(start.folder)
        with own, listening(start.settings.host, start.settings.port) as door, uploads_folder() as uploads:
            os.environ.setdefault("GRADIO_TEMP_DIR", str(uploads))
            serve(start, door)
    except KeyboardInterrupt:
        pass
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on `port` of `host`. Raises UserError if that is not to be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"HOST={host}, PORT={port} cannot be listened on ({error.strerror}): choose another."
        ) from error


def serve(start: Start, door: socket.socket) -> None:
    """Build all parts and serve on `door`; what is slow to import is imported here, once the settings are known."""
    with importing():
        from pipeline.idle_stop import idle_stop_of
        from pipeline.jobs.team import Team
        from pipeline.web.site import build_server, build_site
        from pipeline.web.studio import Studio

    settings = start.settings
    try:
        access, queue = kept_in(start.folder, settings)
    except InvalidSetting as error:
        if not is_hosted():
            raise
        start = elsewhere(start, error)
        access, queue = kept_in(start.folder, settings)
    team = Team(queue, [partial(prepare, start, worker) for worker in range(settings.workers)])
    try:
        idle = idle_stop_of(settings, queue, team)
    except InvalidSetting:  # the page tells it: the start has found it before
        idle = None
    site = build_site(Studio(queue, team, start.entry, idle), access)
    logging.info("The page is on %s", public_url(settings))
    build_server(site).run(sockets=[door])


def kept_in(folder: Path, settings: Settings) -> tuple[tuple[str, str] | None, "JobQueue"]:
    """What lies in `folder`: who may come in, and the queue. Raises InvalidSetting."""
    from pipeline.jobs.queue import JobQueue
    from pipeline.web.signin import credentials

    access = credentials(settings, folder)
    queue = JobQueue(folder / "jobs", settings.max_queue, settings.max_audio_seconds, settings.keep_results_days)
    return access, queue


def prepare(start: Start, worker: int, report: Callable[[ModelState], None]) -> object:
    """Get the model of number `worker` (from 0), if this machine can serve it; on its thread, for it imports torch."""
    if worker == 0:  # the others begin once it has a model: the machine has been looked at then
        require_machine(start, report)
    from pipeline.preparation import prepare_model

    ask_first, workers = asks_first(start.settings), start.settings.workers
    return prepare_model(start.entry, start.settings, report, ask_first=ask_first, worker=worker, workers=workers)


if __name__ == "__main__":
    sys.exit(main())
