"""The page, the API, and what serves both."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Spare Gradio to write the stub of every component anew.

    It parses all its sources for that each time it is imported, a good third of the program's start. A class that comes
    from no file gets no stub.
    """
    where = inspect.getfile

    def nowhere(of: object) -> str:
        if isinstance(of, type) and of.__module__.startswith("gradio."):
            raise OSError(f"{of} has no stub")
        return where(of)

    inspect.getfile = nowhere
    try:
        yield
    finally:
        inspect.getfile = where


with _without_stubs():
    import gradio.components.api_component  # noqa: F401  -- and Gradio with it
