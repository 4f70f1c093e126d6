"""How long a job of the sample model was foreseen to take, after one smaller job, and how long it took.

    python -m tests.jobs.bench_forecast [--times]

To be run on an idle machine: other work makes either job longer. The second job has four times the pixels, three times
the clips and more steps. `--times` prints besides when each event came, as tests/jobs/test_forecast.py keeps it.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.events import ClipReady, Event, StageChanged, Started, StepDone
from pipeline.jobs.forecast import expected_s, measure
from pipeline.jobs.journal import Line
from pipeline.jobs.rendering import Generate, render
from pipeline.preparation import prepare_model
from pipeline.request import GenerationRequest
from pipeline.settings import Settings
from pipeline.store.catalogue import SAMPLE
from tests.media.samples import noise, write_sound
from tests.model.golden import PORTRAIT


@dataclass(frozen=True)
class Foresight:
    """What the second job was foreseen to take, and took."""

    foreseen_s: float
    taken_s: float
    difference_percent: float


def requests(folder: Path) -> tuple[GenerationRequest, GenerationRequest]:
    """The first job and the one that is foreseen by it; their audio is written into `folder`."""
    return _request(folder, 1.0, 64 * 64, 6), _request(folder, 3.0, 128 * 128, 10)


def _request(folder: Path, seconds: float, area: int, steps: int) -> GenerationRequest:
    audio = write_sound(folder / f"{seconds}.wav", noise(seconds, 16000), 16000)
    inputs = {"portrait": PORTRAIT, "audio": audio, "seed": 1}
    settings = {**SAMPLE.defaults, "frames_per_clip": 32, "max_area": area, "steps": steps}
    return GenerationRequest.parse(settings | inputs)


def compare(first: GenerationRequest, second: GenerationRequest, journals: tuple[list[Line], list[Line]]) -> Foresight:
    """The second job's seconds, by its journal, beside those that the first one's journal makes expect."""
    known, lines = journals
    foreseen_s = expected_s(second, lines[0].event.plan, [measure(first, known)])
    taken_s = lines[-1].elapsed_s - lines[0].elapsed_s
    return Foresight(foreseen_s, taken_s, 100 * (foreseen_s / taken_s - 1))


def journal(generate: Generate, request: GenerationRequest, folder: Path) -> list[Line]:
    """Make the video of `request` in `folder`; what happened, and the seconds since it began."""
    folder.mkdir()
    began = time.monotonic()
    events = (event for event in render(generate, request, folder) if _tells(event))
    return [Line(0.0, time.monotonic() - began, event) for event in events]


def _tells(event: Event) -> bool:
    """Whether the forecast looks at it."""
    return isinstance(event, Started | StageChanged | ClipReady) or (isinstance(event, StepDone) and event.step == 1)


def main() -> None:
    """Make both videos and print what was foreseen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", action="store_true", help="print when the events of both jobs came, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = requests(folder)
        model = prepare_model(SAMPLE, Settings(), lambda state: None)
        first, second = [journal(model.generate, job, folder / str(number)) for number, job in enumerate(jobs)]
    if options.times:
        for lines in (first, second):
            print([round(line.elapsed_s, 3) for line in lines])
    print(json.dumps(asdict(compare(*jobs, (first, second))), indent=1))


if __name__ == "__main__":
    main()
