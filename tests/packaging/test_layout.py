"""What is in the tree and in the wheel: the namespace, the parts, the spelling, no traces of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
        "dev-mode-dirs"
    ]
)
# Folder names from a file system's top that no tracked file has a reason to hold; containers' own are fine.
_MACHINE_PATH = re.compile(
    r"(?<![\w.:/~*$}-])/(?:home|Users|root|work|mnt|private|opt/(?!weir))(?:/[\w.-]+)+"
)
_BRITISH = re.compile(
    r"\b\w*(?:colour|behaviour|artefact|catalogue|honour|favour|neighbour|centre|licence|grey|judgement"
    r"|(?:quant|normal|serial|synchron|initial|recogn|organ|optim|minim|maxim|summar|token|sanit|random)is(?:e[drs]?|ing|ation))\w*\b",
    re.IGNORECASE,
)
_ALLOWED_WORDS = {"initialism"}
_TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".proto", ".json", ".txt", ".sh", ".html", ".js", ".css"}


def tracked() -> list[Path]:
    """Files that belong to the project: those in git, and new ones that it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the tree is no git checkout, so its files are not known: {error}")
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    """Our own text files; generated stubs, carried data and pinned versions are others' words."""
    chosen = [path for path in tracked() if path.suffix in _TEXT or path.name in {"Dockerfile", "run"}]
    foreign = ("_pb2", "LICENSE", "uv.lock", "constraints.txt", "test_layout.py", "tokenizer.json")
    return [
        (path, path.read_text(encoding="utf-8"))
        for path in chosen
        if not any(part in path.name for part in foreign) and "data" not in path.relative_to(ROOT).parts
    ]


def modules() -> list[str]:
    """Dotted names of all modules of the distribution."""
    files = [(root, path) for root in ROOTS for path in sorted((ROOT / root / "weir").rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT / root).with_suffix("").parts) for root, path in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_the_namespace_has_no_init_module() -> None:
    strays = [path for path in ROOT.rglob("weir/__init__.py") if ".venv" not in path.parts]
    assert strays == []


def test_every_subpackage_is_typed() -> None:
    folders = {
        path
        for root in ROOTS
        for path in (ROOT / root / "weir").iterdir()
        if path.is_dir() and path.name not in {"__pycache__", "v1"}
    }
    assert folders
    assert [folder.name for folder in folders if not (folder / "py.typed").is_file()] == []
    assert (ROOT / "protos/weir/v1/py.typed").is_file()


def test_every_module_can_be_imported_without_pytorch() -> None:
    # The trainer's packages are wanted by its own extra alone.
    names = [name for name in modules() if ".training" not in name]
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'tensorrt_llm', 'sklearn') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip().splitlines()[-1] == "[]"


def test_every_module_says_what_it_is() -> None:
    files = [
        path for root in ROOTS for path in (ROOT / root / "weir").rglob("*.py") if "_pb2" not in path.name
    ]
    silent = [
        path.name for path in files if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_file_names_a_place_on_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {hit}" for path, text in texts() for hit in _MACHINE_PATH.findall(text)
    ]
    named = [str(path.relative_to(ROOT)) for path, text in texts() if f"{ROOT}/" in text]
    assert found + named == []


def test_the_spelling_is_american() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {word}"
        for path, text in texts()
        for word in _BRITISH.findall(text)
        if word.lower() not in _ALLOWED_WORDS
    }
    assert sorted(found) == []


def test_the_lock_file_is_not_tracked() -> None:
    ran = subprocess.run(
        ["git", "ls-files", "uv.lock"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stdout == ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["uv", "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        pytest.skip("uv is not on the path, so no wheel can be built")
    if ran.returncode and "hatchling" in ran.stderr and "not found" not in ran.stderr:
        pytest.skip(f"the build backend cannot be fetched here: {ran.stderr[-200:]}")
    assert ran.returncode == 0, ran.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_part(wheel: Path) -> None:
    inside, ours = set(zipfile.ZipFile(wheel).namelist()), set(tracked())
    expected = {
        path.relative_to(ROOT / root).as_posix()
        for root in ROOTS
        for path in (ROOT / root / "weir").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path in ours
    }
    assert expected - inside == set()
    assert "weir/__init__.py" not in inside
    assert any(name.endswith(".onnx") for name in inside), "the classifier's artifact is missing"


def test_the_base_install_is_the_client_alone(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", str(python), str(wheel)]
    try:
        ran = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the package registry did not answer within two minutes")
    if ran.returncode:
        pytest.skip(f"the package registry is not reachable: {ran.stderr[-200:]}")
    listed = ["uv", "pip", "list", "--quiet", "--format=freeze", "--python", str(python)]
    frozen = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    installed = {line.split("==")[0].split(" @")[0] for line in frozen.splitlines()}
    assert installed == {"weir", "grpcio", "protobuf", "typing-extensions"} - (
        set() if "typing-extensions" in installed else {"typing-extensions"}
    )
    used = "from weir.client import WeirClient; import weir.v1.router_pb2_grpc"
    subprocess.run([str(python), "-c", used], check=True, cwd=tmp_path)
