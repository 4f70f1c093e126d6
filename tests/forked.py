"""Processes of their own that begin with the libraries loaded: forks of one that has loaded them and does nothing else.

To start Python with PyTorch, transformers, diffusers, Gradio and librosa takes ten seconds of a core and more, a fork
next to none.
"""

import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.loaded"])


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` gives, or raises, in a process of its own."""
    with ProcessPoolExecutor(1, FORKS) as process:
        return process.submit(function, *arguments).result()


def peak_bytes() -> int:
    """The most memory that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def start_app(variables: Mapping[str, str], log: Path | None = None) -> BaseProcess:
    """`app.py` as a program, in this environment with these `variables` besides; `log` is what its stderr is."""
    return start_fork(run_app, os.environ | variables, log)


def start_fork(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """A process that does `function` and is ended with this one at the latest."""
    process = FORKS.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def run_app(environment: Mapping[str, str], log: Path | None) -> None:
    """Be `app.py` in this environment and no other."""
    be_program(environment, log)
    runpy.run_path("app.py", run_name="__main__")


def run_module(module: str, options: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
    """Be `python -m module options` in this environment and no other, in its own session; all output goes to `log`."""
    be_program(environment, log)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)
    os.setsid()
    sys.argv = [module, *options]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def be_program(environment: Mapping[str, str], log: Path | None) -> None:
    """Go on as a program in this environment and no other would, with `log` as stderr if there is one."""
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it may have been found by another environment
    os.chdir(ROOT)
