"""A folder of published files as parquet tables and back: `aftershock convert FOLDER NEW_FOLDER`.

For each file of cases there is a table of rows and one of statements, for each prompt file one of prompts,
and `files.parquet` lists them. What is read in the published layout is written back byte for byte.
"""

import hashlib
import json
from pathlib import Path

import pandas as pd

from aftershock.datasets.released import (
    ALL_FILES,
    FILES,
    PROMPT_FILES,
    Published,
    names_in,
    read_cases,
    read_prompts,
    write_cases,
    write_prompts,
)
from aftershock.output import whole_folder
from aftershock.tables.cases import RELEASED_FILES, RELEASED_ROWS, STATEMENTS
from aftershock.tables.graph import PROMPTS

LIST = "files.parquet"
KEPT, ANEW, CHANGED = "byte for byte", "same content, laid out anew", "tables were changed"


def to_tables(source: Path, target: Path) -> pd.DataFrame:
    """Write the files of `source` as tables to the new folder `target`; return its RELEASED_FILES.

    ValueError when `source` holds no file of the format, or a broken one.
    """
    names, _ = names_in(source)
    files = []
    with whole_folder(target) as folder:
        for dataset, name in FILES.items():
            if name in names:
                published = read_cases(source, dataset)
                rows, statements = _tables(folder, name)
                RELEASED_ROWS.write(published.rows, rows)
                STATEMENTS.write(published.statements, statements)
                files.append(_listed(source / name, len(published.rows), published.style))
        for kind, name in PROMPT_FILES.items():
            if name in names:
                prompts, style = read_prompts(source, kind)
                PROMPTS.write(prompts, _prompts(folder, name))
                files.append(_listed(source / name, prompts["relation_id"].nunique(), style))
        table = pd.DataFrame(files, columns=list(RELEASED_FILES.columns))
        RELEASED_FILES.write(table, folder / LIST)
    return table


def to_files(source: Path, target: Path) -> pd.DataFrame:
    """Write the tables of `source` as published files to the new folder `target`.

    Returns RELEASED_FILES with a column `result`: whether a file is what was read, byte for byte. ValueError
    when a table is missing or another one.
    """
    table = RELEASED_FILES.read(source / LIST)
    if unknown := sorted(set(table["file"]) - set(ALL_FILES)):
        raise ValueError(f"{source / LIST} lists {unknown[0]!r}; known names: {', '.join(ALL_FILES)}")
    results = []
    with whole_folder(target) as folder:
        for file in table.itertuples(index=False):
            style = json.loads(file.style) if isinstance(file.style, str) else None
            if file.file in PROMPT_FILES.values():
                text = write_prompts(PROMPTS.read(_prompts(source, file.file)), style)
            else:
                rows, statements = _tables(source, file.file)
                text = write_cases(Published(RELEASED_ROWS.read(rows), STATEMENTS.read(statements), style))
            (folder / file.file).write_bytes(text.encode())
            same = hashlib.sha256(text.encode()).hexdigest() == file.sha256
            results.append(KEPT if same else ANEW if style is None else CHANGED)
    return table.assign(result=results)


def _tables(folder: Path, name: str) -> tuple[Path, Path]:
    stem = Path(name).stem
    return folder / f"{stem}.rows.parquet", folder / f"{stem}.statements.parquet"


def _prompts(folder: Path, name: str) -> Path:
    return folder / f"{Path(name).stem}.parquet"


def _listed(path: Path, rows: int, style: object) -> tuple:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.name, rows, digest, None if style is None else json.dumps(style)


def convert(source: Path, target: Path) -> None:
    """Convert published JSON files to parquet tables, or such tables back to the files, and list them."""
    if target.exists():
        raise ValueError(f"{target} exists; name a new folder")
    if (source / LIST).is_file():
        for row in to_files(source, target).itertuples(index=False):
            print(f"{row.file}: {row.result}")
        return
    for row in to_tables(source, target).itertuples(index=False):
        print(f"{row.file}: {row.rows} {'relations' if row.file in PROMPT_FILES.values() else 'rows'}")
