"""A hash of the content of a stage's script."""

import ast
import hashlib
import os
from pathlib import Path


def script_hash(path: str | os.PathLike) -> str:
    """Return a sha256 of a script's code; comments and layout do not count, nor does its date."""
    tree = ast.parse(Path(path).read_bytes(), filename=str(path))
    if ast.get_docstring(tree, clean=False) is not None:
        tree.body = tree.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
