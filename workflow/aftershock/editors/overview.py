"""Tables of the editing methods that are found, in Markdown: python -m aftershock.editors.overview."""

from collections.abc import Iterable, Sequence

from aftershock.editors.methods import FoundMethod, find_methods
from aftershock.lm.families import list_families

DEPTH = 24  # of the model whose layers are shown


def methods_table(methods: Iterable[FoundMethod]) -> list[str]:
    """Return the lines of a table: each method with its paper, what it changes, and what it needs."""
    head = ("method", "name", "from", "changes", "made first", f"layers of {DEPTH}")
    return _table(head, (_row(found) for found in methods))


def families_table(methods: Sequence[FoundMethod]) -> list[str]:
    """Return the lines of a table: the families that each method edits, where it leaves some out."""
    families = list_families()
    rows = []
    for found in methods:
        out = [name for name in families if not found.method.edits(name)]
        rows.append((f"`{found.name}`", "all but " + ", ".join(out) if out else f"all {len(families)}"))
    return _table(("method", "families"), rows)


def _row(found: FoundMethod) -> tuple[str, ...]:
    method = found.method
    settings = method.settings()
    needs = ", ".join(f"`{name}`" for name in method.needs(settings)) or "nothing"
    return f"`{found.name}`", method.title, method.source, method.changes, needs, _layers(found, settings)


def _layers(found: FoundMethod, settings: object) -> str:
    if not hasattr(settings, "layers"):
        return "none"
    layers = found.method.layers(DEPTH) if found.method.layers else ()
    if not layers:
        return "as the model's file says"
    whole = len(layers) > 1 and layers == tuple(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    found_methods = [found for _, found in sorted(find_methods().items())]
    print("\n".join([*methods_table(found_methods), "", *families_table(found_methods)]))
