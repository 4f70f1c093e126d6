"""How large libraries are imported: without a look for garbage, of which there is none among them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """While this lasts Python's collector rests.

    It would look through all that has been imported again and again: a quarter of the time that PyTorch, transformers
    and diffusers, or Gradio, take to import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
