"""Steps that fail, wherever in them it is, are as if they had not been begun."""

import pytest
import torch

from pipeline.model.sampling import Denoising, make_scheduler

STEPS = 6
INNER_PARTS = {"unipc": "multistep_uni_p_bh_update", "dpm++": "multistep_dpm_solver_second_order_update"}


def flow_of(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return 0.3 * latents + 0.1 * torch.sin(timestep.view(-1, 1, 1, 1, 1) + latents)


def denoised(solver: str, fails_at_call: int | None = None) -> torch.Tensor:
    """The latents after all steps, each begun anew where it failed."""
    scheduler = make_scheduler(solver, STEPS, 3.0, torch.device("cpu"))
    part, calls, failures = getattr(scheduler, INNER_PARTS[solver]), [], []

    def failing_once(*arguments: object, **options: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == fails_at_call:
            raise MemoryError
        return part(*arguments, **options)

    setattr(scheduler, INNER_PARTS[solver], failing_once)
    work = Denoising(scheduler, torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    while work.done < STEPS:
        try:
            list(work.steps(flow_of))
        except MemoryError:
            failures.append(work.done)
    assert len(failures) == (fails_at_call is not None)
    return work.latents


@pytest.mark.parametrize("solver", INNER_PARTS)
def test_a_step_that_fails_inside_the_solver_can_be_done_again(solver: str) -> None:
    assert torch.equal(denoised(solver, fails_at_call=3), denoised(solver))
