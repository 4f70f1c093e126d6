"""Which models there are, as data: where each comes from, which of its files are needed, and for what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any

from pipeline.errors import InvalidSetting

_NAME = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"  # as the Hub allows them
REPOSITORY = re.compile(rf"(?P<repository>(?=[^@]{{3,96}}(?:@|$)){_NAME}/{_NAME}(?<!\.git))(@(?P<revision>.+))?")
GGUF_ON_HUB = re.compile(rf"(?P<repository>{_NAME}/{_NAME})(@(?P<revision>[\w.-]+))?/(?P<file>[\w./-]+\.gguf)")
REVISION_NAME = re.compile(r"[\w][\w./-]*")
DEFAULT_MODEL, DEFAULT_VARIANT = "wan2.2-s2v-14b", "bf16"
TRANSFORMER_BYTES = 32_600_000_000  # of the 14B model, about
BUNDLED_MODELS = Path(__file__).parents[2] / "assets"


@dataclass(frozen=True)
class Component:
    """One part of a model. `required` and `optional` are glob patterns of paths in the folder; `*` crosses no `/`.

    Each required pattern must match at least one file.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


OFFICIAL_LAYOUT = (
    Component(
        "transformer",
        required=(
            "config.json",
            "diffusion_pytorch_model*.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
        ),
    ),
    Component("text encoder", required=("models_t5_umt5-xxl-enc-bf16.pth",)),
    Component(
        "tokenizer",
        required=("google/umt5-xxl/tokenizer.json", "google/umt5-xxl/tokenizer_config.json"),
        optional=("google/umt5-xxl/special_tokens_map.json", "google/umt5-xxl/spiece.model"),
    ),
    Component("VAE", required=("Wan2.1_VAE.pth",)),
    Component(
        "speech encoder",
        required=(
            "wav2vec2-large-xlsr-53-english/config.json",
            "wav2vec2-large-xlsr-53-english/model.safetensors",
            "wav2vec2-large-xlsr-53-english/*processor_config.json",  # preprocessor_ or, from newer writers, processor_
        ),
    ),
)


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be used: on the Hub (`repository`, `revision`) or in a `folder` that is used as it is."""

    name: str  # what MODEL says
    title: str
    variant: str
    components: tuple[Component, ...] = OFFICIAL_LAYOUT
    repository: str | None = None
    revision: str | None = None
    folder: Path | None = None
    place: str = ""  # its folder among the models, OWNER/NAME if not given
    weights: "ModelEntry | None" = None  # one GGUF file, where the transformer's weights come from elsewhere
    size_bytes: int | None = None  # of the needed files, about; the exact sizes come with the repository's listing
    defaults: Mapping[str, Any] = field(default_factory=dict)  # fields of GenerationRequest that differ
    notice: str = ""  # what the page says of this model

    @property
    def total_bytes(self) -> int:
        """Length of all needed files, about; 0 where it is not known."""
        return (self.size_bytes or 0) + (self.weights.total_bytes if self.weights else 0)

    @property
    def subfolder(self) -> str:
        """Where it lies among the downloaded models."""
        return self.place or self.repository

    @property
    def required(self) -> tuple[str, ...]:
        """The patterns of which each must match a file."""
        return tuple(pattern for component in self.components for pattern in component.required)

    def component_of(self, path: str) -> str | None:
        """The component that the file `path` (relative, with `/`) belongs to, None where nothing needs it."""
        for component in self.components:
            if any(matches(path, pattern) for pattern in component.required + component.optional):
                return component.name
        return None


def matches(path: str, pattern: str) -> bool:
    """Whether `path` fits the glob `pattern`, part by part between the slashes."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


SAMPLE = ModelEntry(
    name="sample",
    title="Sample model",
    variant="fp32",
    folder=BUNDLED_MODELS / "sample_model",
    defaults={"max_area": 128 * 192, "steps": 6, "guidance": 1.0, "shift": 5.0},
    notice=(
        "Sample model: drawn faces, 128 px. It shows what the program does without a GPU, and a real photograph comes "
        "out as a soft copy at best. For real portraits run the 14B model on a GPU: start the program with "
        "MODEL=wan2.2-s2v-14b."
    ),
)

OFFICIAL = ModelEntry(
    name=DEFAULT_MODEL,
    title="Wan2.2-S2V-14B",
    variant=DEFAULT_VARIANT,
    repository="Wan-AI/Wan2.2-S2V-14B",
    revision="dab4e9c55bbe4c8c4d03db1c2c98c7f0ac9c454b",
    size_bytes=45_700_000_000,
)


def gguf_entry(source: str, size_bytes: int | None = None) -> ModelEntry:
    """What GGUF or a variant of the catalogue names: a file, a folder with one, or OWNER/NAME[@REVISION]/FILE.

    Each file of a repository has a folder of its own among the models, for different programs on one volume may use
    different ones. Raises InvalidSetting.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = _only_gguf(path)
    if path.is_file():
        return ModelEntry(source, path.name, "GGUF", _gguf_component(path.name), folder=path.parent.resolve())
    match = GGUF_ON_HUB.fullmatch(source)
    if match is None:
        raise InvalidSetting(
            f"GGUF={source!r} cannot be used: give a file, a folder or OWNER/NAME[@REVISION]/FILE.gguf."
        )
    repository, revision, file = match["repository"], match["revision"] or "main", match["file"]
    return ModelEntry(
        name=f"{repository}/{file}",
        title=file,
        variant="GGUF",
        components=_gguf_component(file),
        repository=repository,
        revision=revision,
        place=f"{repository}/{file.replace('/', '-').removesuffix('.gguf')}",
        size_bytes=size_bytes,
    )


def _only_gguf(folder: Path) -> Path:
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise InvalidSetting(f"GGUF={str(folder)!r} holds {len(found)} .gguf files: name the one that is meant.")
    return found[0]


def _gguf_component(file: str) -> tuple[Component, ...]:
    return (Component("transformer", required=(escape(file),)),)


def with_weights_from(entry: ModelEntry, weights: ModelEntry) -> ModelEntry:
    """`entry` with the weights of its transformer from elsewhere; its config is still needed."""
    config = Component("transformer", required=("config.json",))
    rest = tuple(component for component in entry.components if component.name != "transformer")
    size = entry.size_bytes and entry.size_bytes - TRANSFORMER_BYTES
    title = f"{entry.title} with {weights.title}"
    return replace(entry, title=title, components=(config, *rest), size_bytes=size, weights=weights)


def _packed(variant: str, size_bytes: int) -> ModelEntry:
    file = f"QuantStack/Wan2.2-S2V-14B-GGUF/Wan2.2-S2V-14B-{variant.upper()}.gguf"
    return replace(with_weights_from(OFFICIAL, gguf_entry(file, size_bytes)), variant=variant)


CATALOGUE = (
    SAMPLE,
    OFFICIAL,
    _packed("q8_0", 17_300_000_000),  # 8.5 bits for each of 16.3 billion weights
    _packed("q5_k_m", 15_000_000_000),
    _packed("q4_k_m", 13_900_000_000),
)
VARIANTS = tuple(entry.variant for entry in CATALOGUE if entry.name == DEFAULT_MODEL)


def entry_for(model: str | None, variant: str | None = None, revision: str | None = None) -> ModelEntry:
    """The entry that MODEL, MODEL_VARIANT and MODEL_REVISION name; None is the 14B model, its first variant, as pinned.

    `model` is a name of the catalogue, OWNER/NAME[@REVISION] on the Hub, or a folder. What looks like a repository
    is a folder where there is a folder of that path. Raises InvalidSetting.
    """
    model = model or DEFAULT_MODEL
    named = [entry for entry in CATALOGUE if entry.name == model]
    if named:
        return _at_revision(_variant_of(named, variant), revision)
    if variant is not None:
        raise InvalidSetting(f"MODEL_VARIANT={variant!r} cannot be used: only models of the catalogue have variants.")
    if (folder := _folder_at(model)) is not None:
        return ModelEntry(name=model, title=folder.name, variant="as found", folder=folder)
    return _repository_entry(model, revision)


def _folder_at(path: str) -> Path | None:
    try:
        folder = Path(path).expanduser()
        return folder.resolve() if folder.is_dir() else None
    except (RuntimeError, ValueError, OSError):  # a home that is not there, what is no path at all, a name too long
        return None


def _variant_of(entries: list[ModelEntry], variant: str | None) -> ModelEntry:
    for entry in entries:
        if variant in (None, entry.variant):
            return entry
    accepted = ", ".join(entry.variant for entry in entries)
    raise InvalidSetting(f"MODEL_VARIANT={variant!r} cannot be used: {entries[0].title} comes as {accepted}.")


def _at_revision(entry: ModelEntry, revision: str | None) -> ModelEntry:
    if revision is None or entry.repository is None:
        return entry
    return _with_revision(entry, "MODEL_REVISION", revision)


def _repository_entry(model: str, revision: str | None) -> ModelEntry:
    match = REPOSITORY.fullmatch(model)
    if match is None:
        names = ", ".join(dict.fromkeys(entry.name for entry in CATALOGUE))
        raise InvalidSetting(
            f"MODEL={model!r} cannot be used: give {names}, a folder that exists, or a Hub repository "
            "OWNER/NAME[@REVISION]."
        )
    repository, own_revision = match["repository"], match["revision"]
    entry = ModelEntry(name=model, title=repository, variant="as found", repository=repository)
    source = "MODEL" if own_revision else "MODEL_REVISION"
    return _with_revision(entry, source, own_revision or revision or "main")


def _with_revision(entry: ModelEntry, source: str, revision: str) -> ModelEntry:
    if not REVISION_NAME.fullmatch(revision) or ".." in revision:
        raise InvalidSetting(f"{source}: the revision {revision!r} is not the name of a commit, branch or tag.")
    return replace(entry, revision=revision)
