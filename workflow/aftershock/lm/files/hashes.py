"""Hashes of files' contents."""

import hashlib
from pathlib import Path


def sha256_of(*paths: str | Path) -> str:
    """Hash of the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def sha256_of_weights(folder: str | Path) -> str:
    """Hash of all safetensors files of a model folder, in order of name."""
    return sha256_of(*sorted(Path(folder).glob("*.safetensors")))
