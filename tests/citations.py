"""Find citations in documents, docstrings and comments: links, files, modules, names, make targets, keys."""

import ast
import builtins
import keyword
import re
import subprocess
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from docs.site_pages import made_pages

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workflow" / "aftershock"
SUFFIXES = "py|smk|md|ya?ml|tsv|csv|txt|rst|j2|js|css|svg|toml|json|parquet"
CODE = ("*.py", "*.smk", "*.yaml", "*.tsv", "*.js", "*.j2", "*.toml", "Snakefile", "Makefile")
KEYS = ("workflow/schemas", "workflow/rules", "workflow/profiles", "workflow/aftershock/editors")
MADE = (".csv", ".json", ".parquet", ".svg", ".tex", ".tsv", ".txt")  # what runs read and write, beside ours
# Files of a user, of other programs and of papers' code.
ELSEWHERE = re.compile(
    r"(path/to|data|results|profile)/.*|(file|mine|small)\.(py|yaml)|NOTICE\.md|counterfact\.json|.*hparams/.*"
    r"|_multi\.json"
)
# Names in other programs, and one that code puts together.
NOT_OURS = {"batchmean", "get_min_job_age", "single_texts_token_accuracy", "tokenizer.model"}
VARIABLES = {"run", "settings"}  # and modules of these names
PACKAGES = "|".join(sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(rf"(?<![\w/.{{}}*:<-])(?:[\w.-]+/)*[\w.-]+\.(?:{SUFFIXES})\b(?![\w/{{*(])")
_FOLDER = re.compile(rf"`((?:workflow|docs|tests|benchmarks|resources|envs|containers|{PACKAGES})/[\w./-]*)`")
_MODULE = re.compile(r"\baftershock(?!\.(?:sif|def)\b)(?:\.\w+)+(?!\.?\w)")
_TICKED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_DOTTED = re.compile(r"[a-z_]\w*(?:\.[A-Za-z_]\w*)+")
_SETTING = re.compile(r"([a-z_]\w*): \S.*")
MAKE = re.compile(r"(?:^ {4}|^# |`)make(?: [A-Z_]+=\S+)* ([a-z][a-z-]*)", re.MULTILINE)
_STRING_OR_COMMENT = re.compile(
    r"""(?:\b[A-Za-z]{1,2})?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#[^\n]*""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Passage(NamedTuple):
    """Text for readers, and where it begins."""

    file: Path
    line: int
    text: str

    def line_of(self, cited: str) -> int:
        """The line in which the passage cites something first."""
        return self.line + self.text[: self.text.find(cited)].count("\n")


def tracked(*patterns: str) -> list[Path]:
    """Files under version control that match patterns, as git understands these."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [file for name in listed.split("\0") if (file := ROOT / name).is_file()]


def passages(file: Path) -> Iterator[Passage]:
    """Text of a document or a schema; docstrings and comments of a program; comments of other files."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md" or "schemas" in file.parts:
        yield Passage(file, 1, text)
    elif file.suffix == ".py":
        comments = [(line, of[0]) for line, of in _strings_and_comments(file) if of[0].startswith("#")]
        yield from (Passage(file, line, said) for line, said in [*_docstrings(file), *comments])
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"(^|\s)#", line):
                yield Passage(file, number, line[line.index("#") :])


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))  # not kept: all of them are millions of objects


@cache
def _strings_and_comments(file: Path) -> list[tuple[int, re.Match[str]]]:
    """Strings and comments of a program, each with its line; `tokenize` would take many times as long."""
    text = file.read_text(encoding="utf-8")
    ends = [match.start() for match in re.finditer("\n", text)]
    return [(bisect_left(ends, match.start()) + 1, match) for match in _STRING_OR_COMMENT.finditer(text)]


@cache
def _docstrings(file: Path) -> list[tuple[int, str]]:
    """String constants that stand alone, each with its line: docstrings, and what is said of attributes."""
    waiting: list[ast.AST] = list(reversed(_tree(file).body))
    found = []
    while waiting:
        statement = waiting.pop()
        match statement:
            case ast.Expr(ast.Constant(str(said))):
                found.append((statement.lineno, said))
            case _:
                parts = ("finalbody", "orelse", "cases", "handlers", "body")
                waiting += [inner for part in parts for inner in reversed(getattr(statement, part, ()))]
    return found


def links(passage: Passage) -> list[str]:
    """Relative links of a document."""
    found = _LINK.findall(passage.text) if passage.file.suffix == ".md" else []
    return [link for link in found if "://" not in link]


def link_resolves(passage: Passage, link: str) -> bool:
    path, _, anchor = link.partition("#")
    file = passage.file.parent / path if path else passage.file
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths(passage: Passage) -> list[str]:
    """Files and folders of the project that a passage names."""
    found = dict.fromkeys([*_PATH.findall(passage.text), *_FOLDER.findall(passage.text)])
    placeholder = re.compile(r"[A-Z]{3,}\b(?!\.md)")
    return [path for path in found if not placeholder.search(path) and not ELSEWHERE.fullmatch(path)]


def path_resolves(passage: Passage, path: str) -> bool:
    """True if the file is there: below the project, the package, the tests or the folder that cites it."""
    bases = (ROOT, ROOT / "workflow", PACKAGE, ROOT / "tests", passage.file.parent)
    if any((base / path).exists() for base in bases) or path in _code_words():
        return True
    return path.endswith(MADE) and (Path(path).stem in _code_words() or path in _code_text())


def modules(passage: Passage) -> list[str]:
    """Modules of the package and names in them, as `aftershock.lm.texts.tokens.Located`."""
    return [name for name in _MODULE.findall(passage.text) if not name.endswith((".room", ".module"))]


def module_resolves(_: Passage, name: str) -> bool:
    return _below(PACKAGE, name.split(".")[1:])


def _below(folder: Path, parts: list[str]) -> bool:
    """True if a package holds the module or the name that `parts` spell."""
    if not parts:
        return True
    if (folder / parts[0]).is_dir():
        return _below(folder / parts[0], parts[1:])
    file = folder / f"{parts[0]}.py"
    if file.is_file():
        return len(parts) == 1 or parts[1] in _names(file)
    return parts[0] in _names(folder / "__init__.py")


@cache
def _names(file: Path) -> frozenset[str]:
    """Names that the top level of a module binds."""
    tree = _tree(file) if file.is_file() else ast.Module([], [])
    found: set[str] = set()
    body = [part for node in tree.body for part in (node.body if isinstance(node, ast.If) else [node])]
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return frozenset(found)


def names(passage: Passage) -> list[str]:
    """Identifiers in backticks, dotted ones among them."""
    return [
        name
        for name in _TICKED.findall(passage.text)
        if (_WORD.fullmatch(name) or _DOTTED.fullmatch(name))
        and not _PATH.fullmatch(name)
        and not name.startswith(("_", "aftershock."))  # an ending of names; a module
        and name not in NOT_OURS
    ]


def name_resolves(_: Passage, name: str) -> bool:
    """True if code has every word of the name; a dotted one of a module or a section must be found in it."""
    words = name.split(".")
    if not all(word in _code_words() for word in words):
        return False
    if len(words) == 1 or words[0] not in _owners() or words[0] in VARIABLES:
        return True
    return any(_below(folder, words[at:]) for folder, at in _owners()[words[0]]) or name in _config_keys()


def guide_resolves(passage: Passage, name: str) -> bool:
    """True if a name in a package's guide is a module, a package beside it, or defined in its modules."""
    here, first = passage.file.parent, name.split(".")[0]
    if any((folder / part).exists() for folder in (here, here.parent) for part in (first, f"{first}.py")):
        return True
    return any(first in _names(file) | _called(file) for file in here.rglob("*.py"))


@cache
def _called(file: Path) -> frozenset[str]:
    """The string constants of a program, and the names of its functions, methods and their arguments."""
    nodes = list(ast.walk(_tree(file)))
    constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.keyword | ast.arg)}
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return frozenset(name for name in constants | arguments | functions if isinstance(name, str))


@cache
def _owners() -> dict[str, list[tuple[Path, int]]]:
    """Return where first words of dotted names can be looked up: packages, modules, keys of the config."""
    found: dict[str, list[tuple[Path, int]]] = {}
    for file in PACKAGE.rglob("*.py"):
        if file.name == "__init__.py":
            found.setdefault(file.parent.name, []).append((file.parent, 1))
        else:
            found.setdefault(file.stem, []).append((file.parent, 0))
    for key in _config_keys():
        found.setdefault(key.partition(".")[0], [])
    return found


@cache
def _config_keys() -> frozenset[str]:
    """Keys of the config, each behind those that it is below, as the site's page about them has them."""
    page = made_pages()["reference/configuration.md"]
    return frozenset(re.findall(r"^(?:## |\* `)([\w.]+)", page, flags=re.MULTILINE))


def settings(passage: Passage) -> list[str]:
    """Keys that a document shows with a value: `key: value`."""
    return [match[1] for text in _TICKED.findall(passage.text) if (match := _SETTING.fullmatch(text))]


@cache
def setting_keys() -> frozenset[str]:
    """Keys of schemas, rules, profiles and the settings of methods: words before a colon."""
    texts = [file.read_text(encoding="utf-8") for file in tracked(*KEYS)]
    return frozenset(re.findall(r"^ *(\w+):", "\n".join(texts), flags=re.MULTILINE))


@cache
def targets() -> frozenset[str]:
    """Targets of the Makefile."""
    rules = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    return frozenset(" ".join(rules).split())


@cache
def _code_words() -> frozenset[str]:
    """Every word of code and data, those of docstrings and comments left out; names of files; file names."""
    words = set(_WORD.findall(_code_text()))
    for file in tracked():
        words |= {file.stem, *file.relative_to(ROOT).parts}
    return frozenset(words | set(dir(builtins)) | set(keyword.kwlist))


@cache
def _code_text() -> str:
    """Code and data of the project as one text, without docstrings and comments."""
    return "\n".join(_code(file) for file in tracked(*CODE))


def _code(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix in (".js", ".j2"):
        return text
    if file.suffix != ".py":
        return re.sub(r"(^|\s)#.*$", "", text, flags=re.MULTILINE)
    alone = {line for line, _ in _docstrings(file)}
    kept, end = [], 0
    for line, match in _strings_and_comments(file):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if match[0].startswith("#") or line in alone and not before.strip():
            kept.append(text[end : match.start()])
            end = match.end()
    return "".join([*kept, text[end:]])
