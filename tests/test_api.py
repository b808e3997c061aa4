"""The Python surface: what is public has a docstring and stands on its page, whose scripts run as printed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli import api

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "mipp_cli" / "docs" / "python.md").read_text()
SCRIPTS = re.findall(r"^```python\n(from .*?)^```\n\n^```\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", api.__all__)
def test_a_public_name_is_explained(name: str) -> None:
    assert getattr(api, name).__doc__
    table = PAGE.partition("\n## The names\n")[2].partition("\n## ")[0]
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", table, flags=re.MULTILINE)


def test_the_page_lists_nothing_that_is_not_public() -> None:
    listed = re.findall(r"^\| (`[^|]*`) \|", PAGE, flags=re.MULTILINE)
    assert {name for row in listed for name in re.findall(r"`(\w+)`", row)} == {*api.__all__}


def test_all_that_the_module_imports_is_public() -> None:
    tree = ast.parse(Path(api.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname or alias.name for node in imports for alias in node.names} == {*api.__all__}


def test_the_page_has_the_pipeline_and_a_look_at_pictures() -> None:
    assert ["decrypt_answer" in script for script, _ in SCRIPTS] == [True, False]


@pytest.mark.parametrize(("script", "printed"), SCRIPTS, ids=["pipeline", "pictures"])
def test_a_script_of_the_page_prints_what_the_page_says(script: str, printed: str, tmp_path: Path) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    (tmp_path / "script.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == printed


def test_importing_it_loads_no_command_line() -> None:
    script = "import mipp_cli.api, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"click", "tqdm", "matplotlib", "onnxruntime", "pydicom"} & {*ran.stdout.split()}
    assert "mipp_cli.cli" not in ran.stdout.split()
