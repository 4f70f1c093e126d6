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
