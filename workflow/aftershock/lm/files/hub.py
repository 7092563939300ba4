"""Repositories of the Hub: their files at a revision, and downloads."""

import glob
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from aftershock.lm.files.hashes import sha256_of

ATTEMPTS = 3
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Repository:
    """A model's or data set's files at one commit."""

    hub: str  # owner/name
    revision: str  # as asked for: a commit, tag or branch
    commit: str  # the commit that the revision stood for
    kind: str  # model or dataset
    sha256: Mapping[str, str | None]  # by file; None for a small one, whose hash the Hub does not give

    def __str__(self) -> str:
        return f"{self.hub} at revision {self.revision}"

    def download(self, names: Iterable[str], into: Path) -> dict[str, Path]:
        """The paths of files `names` below `into`, fetched where missing.

        A file that is there whole is kept, so that a killed download goes on with the file it was at; inside
        one, a lost connection is taken up where it was. ValueError when the Hub cannot be reached, and when a
        large file is not the one that the Hub announced.
        """
        names = sorted(names)
        old = {name for name in names if (into / name).is_file()}
        patterns = [glob.escape(name) for name in names]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                snapshot_download(
                    self.hub,
                    repo_type=self.kind,
                    revision=self.commit,
                    local_dir=into,
                    allow_patterns=patterns,
                )
                break
            except (HTTPError, OSError) as error:
                if attempt == ATTEMPTS or isinstance(error, HfHubHTTPError):
                    raise ValueError(_unreachable(self.hub, self.revision, error)) from error
                time.sleep(PAUSE_SECONDS)
        paths = {name: into / name for name in names}
        for name in sorted(set(names) - old):
            self._verify(name, paths[name])
        return paths

    def _verify(self, name: str, path: Path) -> None:
        wanted = self.sha256.get(name)
        if wanted is not None and sha256_of(path) != wanted:
            path.unlink()
            raise ValueError(
                f"{name} of {self} arrived with another sha256 than the Hub announced; run again"
            )


def find_repository(hub: str, revision: str, kind: str = "model") -> Repository:
    """Files of `hub` at `revision`; ValueError says why they cannot be listed."""
    api = HfApi()
    try:
        commit = api.repo_info(hub, repo_type=kind, revision=revision).sha
        tree = api.list_repo_tree(hub, repo_type=kind, revision=commit, recursive=True)
        files = {file.path: file.lfs and file.lfs.sha256 for file in tree if hasattr(file, "size")}
    except (HTTPError, OSError) as error:
        raise ValueError(_unreachable(hub, revision, error)) from error
    return Repository(hub, revision, commit, kind, files)


def place(path: Path, target: Path) -> None:
    """Make a downloaded file appear at `target` too: as a link where the file system can, else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _unreachable(hub: str, revision: str, error: Exception) -> str:
    where = f"{hub} at revision {revision} cannot be fetched: "
    if isinstance(error, GatedRepoError):
        return f"{where}its owners give access on request; ask for it there, then log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"{where}the Hub has no such repository, or not for you; check the name"
    if isinstance(error, RevisionNotFoundError):
        return f"{where}the repository has no such revision; take a commit or tag that it lists"
    said = str(error).strip().partition("\n")[0]
    return (
        f"{where}{type(error).__name__}: {said}; check the network and run again, which goes on with what "
        "has arrived, or name a folder on disk instead"
    )
