"""Escaping of labels, which are data, before figures, LaTeX or Markdown show them as text."""

import re
import unicodedata

UNPRINTABLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""Categories of characters that XML forbids, that break a line or turn the direction of text."""

TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    **{c: f"\\{c}" for c in "{}$&#_%"},
}


def printable(label: str, longest: int = 34) -> str:
    """`label` on one line, without control characters and those that turn the direction of text."""
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in UNPRINTABLE else c for c in label
    )
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def for_latex(label: str) -> str:
    """`label` as LaTeX text. A letter that pdfLaTeX has no definition of is written as its code point."""
    return "".join(_tex(c) for c in printable(label, len(label)))


def _tex(c: str) -> str:
    if c in TEX:
        return TEX[c]
    return c if c < "\u0180" and c.isprintable() and c != "\u00ad" else f"[U+{ord(c):04X}]"


def for_markdown(label: str) -> str:
    """`label` as text in a cell of a Markdown table: nothing in it is markup."""
    clean = printable(label, len(label)).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$>-])", r"\\\1", clean)
