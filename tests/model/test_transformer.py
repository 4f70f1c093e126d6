"""What must hold of the transformer whatever its weights are."""

import pytest
import torch

from pipeline.model.motion import token_positions
from pipeline.model.transformer import ClipConditions, SpeechToVideoTransformer

from .small import small_transformer

FRAMES, HEIGHT, WIDTH = 3, 8, 16


@pytest.fixture(scope="module")
def transformer() -> SpeechToVideoTransformer:
    return small_transformer(heads=2, layers=2, hearing=(1,))


def inputs(batch: int = 1, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "text": (batch, 7, 32),
        "audio": (batch, 25, 32, 4 * FRAMES),
        "reference": (batch, 16, 1, HEIGHT, WIDTH),
        "motion": (batch, 16, 19, HEIGHT, WIDTH),
        "pose": (batch, 16, FRAMES, HEIGHT, WIDTH),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def noise(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 16, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(9))


@torch.inference_mode()
def flow(transformer: SpeechToVideoTransformer, latents: torch.Tensor, conditions: ClipConditions, t: int = 500):
    return transformer(latents, torch.full((latents.shape[0],), t), conditions)


def test_a_batch_gives_what_its_samples_give_alone(transformer) -> None:
    together = flow(transformer, noise(2), transformer.encode_conditions(**inputs(2)))
    for i in range(2):
        one = {name: tensor[i : i + 1] for name, tensor in inputs(2).items()}
        alone = flow(transformer, noise(2)[i : i + 1], transformer.encode_conditions(**one))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_no_pose_is_a_pose_of_zeros(transformer) -> None:
    zeros = transformer.encode_conditions(**inputs() | {"pose": torch.zeros(1, 16, FRAMES, HEIGHT, WIDTH)})
    none = transformer.encode_conditions(**inputs() | {"pose": None})
    torch.testing.assert_close(flow(transformer, noise(), zeros), flow(transformer, noise(), none))


@pytest.mark.parametrize("name", ["text", "audio", "reference", "motion", "pose"])
def test_every_condition_matters(name: str, transformer) -> None:
    usual = flow(transformer, noise(), transformer.encode_conditions(**inputs()))
    changed = transformer.encode_conditions(**inputs() | {name: inputs(seed=2)[name]})
    assert (flow(transformer, noise(), changed) - usual).abs().max() > 1e-4


def test_the_time_matters_and_the_same_call_gives_the_same_numbers(transformer) -> None:
    conditions = transformer.encode_conditions(**inputs())
    assert torch.equal(flow(transformer, noise(), conditions), flow(transformer, noise(), conditions))
    assert not torch.allclose(flow(transformer, noise(), conditions), flow(transformer, noise(), conditions, t=100))


def test_speech_of_a_latent_frame_reaches_that_frame_and_later_ones_alone(transformer) -> None:
    """The injector stands in the last block, so that nothing mixes the frames after it."""
    late = inputs()
    late["audio"] = late["audio"].clone()
    late["audio"][..., 4:] += 1  # from the second latent frame on
    change = flow(transformer, noise(), transformer.encode_conditions(**late))
    change = change - flow(transformer, noise(), transformer.encode_conditions(**inputs()))
    assert change[:, :, 0].abs().max() == 0
    assert (change[:, :, 1:].abs().amax(dim=(0, 1, 3, 4)) > 1e-5).all()


def test_tokens_stand_where_the_specification_puts_them() -> None:
    positions = token_positions(FRAMES, HEIGHT, WIDTH, with_motion=True)
    rows, columns = HEIGHT // 2, WIDTH // 2
    grid = rows * columns
    assert len(positions) == FRAMES * grid + grid + grid + grid // 4 + 4 * grid // 16
    assert positions[0].tolist() == [0, 0, 0]
    assert positions[FRAMES * grid - 1].tolist() == [FRAMES - 1, rows - 1, columns - 1]
    assert set(positions[FRAMES * grid :][:grid, 0]) == {30}
    motion = positions[(FRAMES + 1) * grid :]
    assert list(dict.fromkeys(motion[:, 0].tolist())) == [-1, -3, -19, -14, -9, -4]
    middle = motion[grid : grid + grid // 4]
    assert sorted(set(middle[:, 1])) == [0, 3]
    assert sorted(set(middle[:, 2])) == [0, 2, 4, 7]  # cut off, not rounded: 7/3 and 14/3


def test_it_can_be_trained(transformer) -> None:
    loss = transformer(noise(), torch.tensor([500]), transformer.encode_conditions(**inputs())).square().mean()
    loss.backward()
    without = [name for name, parameter in transformer.named_parameters() if parameter.grad is None]
    assert without == []
