import gc

import pytest

from pipeline.importing import importing


def test_the_collector_rests_and_then_works_again_even_after_an_import_that_fails() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError), importing():
        import no_such_module  # noqa: F401
    assert gc.isenabled()


def test_what_was_there_at_the_end_is_never_looked_through() -> None:
    before = gc.get_freeze_count()
    with importing():
        made = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(made)
