"""`make release`: sdist and wheel built, looked into, installed in an empty environment, and tried there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
LICENCE = "mipp_cli/LICENSE"


def run(*words: str | Path, cwd: Path = ROOT) -> None:
    """Run a command, which must succeed; what it says is shown only if it does not."""
    sys.stdout.write(f"$ {shlex.join(map(str, words))}\n")
    sys.stdout.flush()
    command = [str(word) for word in words]
    ran = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"{ran.stdout}\nthis failed with exit code {ran.returncode}")


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_contents(files: dict[str, bytes], package: set[str]) -> None:
    """Demand that a wheel holds the whole package and nothing else, and the licence beside its metadata."""
    metadata = {name for name in files if name.split("/")[0].endswith(".dist-info")}
    if not any(name.endswith(f".dist-info/licenses/{LICENCE}") for name in metadata):
        raise SystemExit("the wheel holds no licence")
    if unlike := sorted((files.keys() - metadata) ^ package):
        raise SystemExit(f"the wheel and the package differ in {', '.join(unlike)}")


def built_beside(folder: Path) -> dict[str, bytes]:
    """Return the files of a wheel that is built from the tree itself, without what older builds left."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "mipp_cli", tree / "mipp_cli", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, tree)
    (wheel,) = folder.glob("*.whl")
    return contents(wheel)


def try_out(wheel: Path, folder: Path) -> None:
    """Install a wheel in an empty environment, and play all roles with it on the sample pictures."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    samples = ROOT / "sample_data"
    owners, query = sorted((samples / "owners").iterdir()), samples / "queries" / "fundus.jpg"
    run(environment / "bin" / "mipp", "demo", *owners, "--query", query, "-o", folder / "demo", cwd=folder)
    if not (folder / "demo" / "matches" / "matches.html").exists():
        raise SystemExit("the demonstration wrote no page of matches")


def main() -> None:
    """Make a release in dist/, and say where it is."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="mipp-release-") as temporary:
        folder = Path(temporary)
        run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)  # the wheel is built from the sdist
        (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        package = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "mipp_cli").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        files = contents(wheel)
        check_contents(files, package)
        if files != built_beside(folder):
            raise SystemExit("the sdist builds another wheel than the tree")
        try_out(wheel, folder)
    for made in (sdist, wheel):
        sys.stdout.write(f"{made} ({made.stat().st_size} bytes)\n")


if __name__ == "__main__":
    main()
