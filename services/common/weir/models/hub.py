"""Files from the Hugging Face hub, resumed where a download broke off."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weir.models.files import CancelledPull, Folder, SourceError, storage_error
from weir.models.manifest import FileSpec, HubSource

# A hub that does not answer within this many seconds counts as unreachable.
ANSWER_TIMEOUT_S = 5.0

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


def download_from_hub(source: HubSource, files: Sequence[FileSpec], folder: Folder, downloads: Path) -> None:
    """Fetch the files one by one. Raises SourceError where the hub cannot be reached or has others."""
    for file in files:
        path = source.paths.get(file.name, file.name)
        try:
            _check_offered(source, path, file)
            local = _download(source, path, file, folder, downloads)
        except (CancelledPull, SourceError):
            raise
        except OSError as error:
            raise _translate(error, folder) from error
        except Exception as error:
            raise SourceError(_sentence(error)) from error
        folder.adopt(file, local)


def _check_offered(source: HubSource, path: str, file: FileSpec) -> None:
    """Ask for the file's hash before its content; only files in large-file storage have theirs as etag."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise SourceError("HF_HUB_OFFLINE is set")
    url = hf_hub_url(source.repo, path, revision=source.revision)
    etag = get_hf_file_metadata(url, timeout=ANSWER_TIMEOUT_S).etag or ""
    if len(etag) == len(file.sha256) and etag != file.sha256:
        raise SourceError(f"the hub's {path} has SHA-256 {etag}, expected {file.sha256}")


def _download(source: HubSource, path: str, file: FileSpec, folder: Folder, downloads: Path) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            source.repo,
            path,
            revision=source.revision,
            local_dir=downloads,
            etag_timeout=ANSWER_TIMEOUT_S,
            tqdm_class=_reporter(file, folder),
        )
    )


def _reporter(file: FileSpec, folder: Folder) -> type[Any]:
    """Make the progress bar class that the hub's library wants; it reports, and stops a cancelled pull."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs | {"file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            folder.check_cancelled()
            shown: bool | None = super().update(n)
            folder.progress(f"downloading {file.name}", int(self.n), file.size)
            return shown

    return Reporter


def _translate(error: OSError, folder: Folder) -> Exception:
    """The library's network errors are OSErrors too; only those with an errno of a file are the disk's."""
    if error.filename is not None or error.errno in _DISK_ERRNOS:
        return storage_error(folder.path, error)
    return SourceError(_sentence(error))


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
