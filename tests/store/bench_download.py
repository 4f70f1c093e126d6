"""How long this program's download takes against `hf download` of the same files from the same Hub on loopback.

python -m tests.store.bench_download [--size-mb 1000] [--rounds 3] [--mb-per-s N]

The two take turns; the times and the ratio of their medians are printed. `--mb-per-s` limits the Hub's speed per file,
as a network does; without it the machine's processor is what is measured.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.store.catalogue import entry_for

from .hub_server import COMMIT, Hub
from .models import REPOSITORY, model_files

ROOT = Path(__file__).parents[2]
OWN = [sys.executable, "-m", "pipeline", "download"]
SHARE_OF_SIZE = {".safetensors": 0.3, ".pth": 0.05}  # three safetensors files and two archives: all of it


def main() -> None:
    """Run both in turn and print what they took."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        repository = _write_repository(work / "repository", options.size_mb * 1_000_000)
        speed = options.mb_per_s and options.mb_per_s * 1e6
        with Hub(REPOSITORY, repository, bytes_per_s=speed) as hub:
            for path in repository:
                hub.digests(path)
            needed = [path for path in repository if entry_for(REPOSITORY).component_of(path)]
            commands = {"hf download": _hf(work, needed), "this program": OWN}
            times = {name: [] for name in commands}
            for _ in range(options.rounds):
                for name, command in commands.items():
                    times[name].append(_seconds(command, hub, work))
                    print(f"{name}: {times[name][-1]:.2f} s", flush=True)
    hf, own = (statistics.median(seconds) for seconds in times.values())
    print(f"medians {hf:.2f} s and {own:.2f} s, ratio {own / hf:.3f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mb-per-s", type=float, default=None)
    return parser.parse_args()


def _write_repository(folder: Path, size: int) -> dict[str, Path]:
    files = {}
    for path, content in model_files().items():
        files[path] = folder / path
        files[path].parent.mkdir(parents=True, exist_ok=True)
        length = int(size * SHARE_OF_SIZE.get(files[path].suffix, 0)) or len(content)
        with files[path].open("wb") as stream:
            stream.write(content)
            while stream.tell() < length:
                stream.write(os.urandom(min(2**20, length - stream.tell())))
    return files


def _hf(work: Path, needed: list[str]) -> list[str]:
    hf = Path(sys.executable).with_name("hf")
    return [str(hf), "download", REPOSITORY, *needed, "--revision", COMMIT, "--local-dir", str(work / "target")]


def _seconds(command: list[str], hub: Hub, work: Path) -> float:
    for folder in ("target", "home"):
        shutil.rmtree(work / folder, ignore_errors=True)
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(work / "home"),
        "MODEL": f"{REPOSITORY}@{COMMIT}",
        "MODEL_CACHE_DIR": str(work / "target"),
        "PYTHONPATH": str(ROOT),
    }
    start = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
