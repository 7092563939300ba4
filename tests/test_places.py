"""Homes, caches and temporary folders that cannot be used, and users without a name."""

import getpass
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from aftershock.jobs import folder
from aftershock.jobs.folder import PreflightError, check_names, check_writable, find_places, user_name

VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TMPDIR", "LOGNAME")
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, a home and a temporary folder that can be used."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that all are set back afterwards
        monkeypatch.delenv(name)
    for name in ("work", "home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that the system has no name for."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_places_that_can_be_used_stay(environment: Path, capsys: pytest.CaptureFixture) -> None:
    before = dict(os.environ)
    find_places()
    assert dict(os.environ) == before
    assert capsys.readouterr().err == ""
    assert not (environment / "work" / ".snakemake").exists()


@pytest.mark.parametrize("home", ["/dev/null", "/not/there", "relative"])
def test_a_home_that_is_none_gives_way_to_a_folder_of_the_project(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    find_places()
    assert Path.home() == environment / "work/.snakemake/places/home"
    assert Path.home().is_dir()
    said = capsys.readouterr().err
    assert home in said
    assert "HOME is now .snakemake/places/home" in said


def test_a_home_that_cannot_be_written_keeps_what_can_be_read_there(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = environment / "home"
    (home / ".cache").write_text("a file where a folder is needed")
    (home / ".config").write_text("the same")
    find_places()
    assert Path.home() == home
    assert Path(os.environ["XDG_CACHE_HOME"]) == environment / "work/.snakemake/places/xdg_cache_home"
    assert Path(os.environ["MPLCONFIGDIR"]).is_dir()


@pytest.mark.parametrize("name", ["TMPDIR", "XDG_CACHE_HOME"])
def test_a_folder_without_room_is_replaced(
    environment: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    full = environment / "full"
    monkeypatch.setenv(name, str(full))
    write = folder._write_probe

    def write_probe(place: Path) -> None:
        if place == full:
            raise OSError("No space left on device")
        write(place)

    monkeypatch.setattr(folder, "_write_probe", write_probe)
    find_places()
    assert Path(os.environ[name]).is_relative_to(environment / "work/.snakemake")
    if name == "TMPDIR":
        assert tempfile.gettempdir() == os.environ["TMPDIR"]


@pytest.mark.usefixtures("nameless")
def test_a_user_without_a_name_has_a_number(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_name() == f"user {os.getuid()}"
    (environment / "work" / "results").write_text("no folder")
    with pytest.raises(PreflightError, match="results/ cannot be written"):
        check_writable(Path("results"))
    find_places()
    assert getpass.getuser() == f"user{os.getuid()}"


@pytest.mark.parametrize("name", ["a{b}", "a{", "b}/c"])
def test_a_folder_with_braces_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PreflightError, match="'[{}]'.* in a path means something else") as caught:
        check_names(tmp_path / name)
    assert name in str(caught.value)
    check_names(tmp_path)
