"""The wheel that brings the command: what is in it, and that its code is the checkout's."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_what_a_run_needs(wheel: Path) -> None:
    share = wheel / "aftershock" / "share"
    tracked = subprocess.run(
        ["git", "ls-files", "Snakefile", "config.yaml", "resources", "envs", "profiles", "workflow"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, tracked):
        inside = name.removeprefix("workflow/") if name.startswith("workflow/aftershock/") else None
        path = wheel / inside if inside else share / name
        assert path.read_bytes() == (ROOT / name).read_bytes(), name
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    extras = {line.split(": ")[1] for line in text.splitlines() if line.startswith("Provides-Extra")}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert extras == {"workflow", "slurm", "lm-eval", "atlas", "encoder"}
    assert f"Version: {pyproject['project']['version']}" in text
    assert "Requires-Dist: snakemake; extra == 'workflow'" in text
    assert "Requires-Dist: torch\n" in text


def test_code_hashes_of_the_wheel_are_those_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    code = (
        "from aftershock.project import IN_CHECKOUT, PROJECT;"
        "from aftershock.provenance.code_hash import code_hash;"
        "scripts = PROJECT / 'workflow/scripts';"
        "print(IN_CHECKOUT, *(code_hash(str(scripts / f'{name}.py')) for name in ('edit', 'tables')))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for path in (wheel, ROOT / "workflow")
    ]
    assert [each[0] for each in found] == ["False", "True"]
    assert found[0][1:] == found[1][1:]
