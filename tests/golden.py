"""Compare this project's editors, scoring and metrics with recorded runs of the released code.

    python tests/golden.py DIR

DIR holds models/ and cases/<method>-<arch>/<case>/ (or any part of them). A row is printed per case; methods
that are not implemented here, and cases with a hyperparameter that has no meaning here, are listed and not
counted. Exit status 1 when a case is out of tolerance or ends in an error; the others are run all the same.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import torch

from recorded import Check, NotCoveredError, Recorded, worst
from recorded_crispedit import check_crispedit
from recorded_edits import check_ft, check_rome, check_rrome
from recorded_memories import check_memoir, check_wise
from recorded_mend import check_mend
from recorded_multi_layer import check_alphaedit, check_emmet, check_pmet, edited_by
from recorded_neurons import check_grace, check_kn
from recorded_options import check_core, check_nas, check_prune, check_rect, check_sphere
from recorded_remembering import check_lyaplock, check_nse, check_simie
from recorded_results import check_metrics, check_scoring
from recorded_serac import check_serac
from recorded_tuning import check_locft, check_ultraedit

CHECKS: dict[str, Callable[[Recorded], Iterator[Check]]] = {
    "ft": check_ft,
    "rome": check_rome,
    "rrome": check_rrome,
    "memit": edited_by("memit"),
    "mle-memit": edited_by("memit"),
    "memit-seq": edited_by("memit", previous_keys=True),
    "encore": edited_by("encore", variant="released"),  # with the number of right tokens that it waits for
    "emmet": check_emmet,
    "lyaplock": check_lyaplock,
    "nse": check_nse,
    "simie": check_simie,
    "alphaedit": check_alphaedit,
    "pmet": check_pmet,
    "nas": check_nas,
    "core": check_core,
    "mend": check_mend,
    "kn": check_kn,
    "grace": check_grace,
    "ultraedit": check_ultraedit,
    "stableedit": check_ultraedit,
    "locft": check_locft,
    "crispedit": check_crispedit,
    "rect": check_rect,
    "prune": check_prune,
    "sphere": check_sphere,
    "wise": check_wise,
    "memoir": check_memoir,
    "scoring": check_scoring,
    "serac": check_serac,
}
ARCHITECTURES = ("gpt2", "gptj", "neox", "llama")


def method_and_case(path: Path, cases: Path) -> tuple[str, str]:
    """("mle-memit", "gpt2/round") for cases/mle-memit-gpt2/round."""
    group, *rest = path.relative_to(cases).parts
    for architecture in ARCHITECTURES:
        if group.endswith(f"-{architecture}"):
            return group.removesuffix(f"-{architecture}"), "/".join([architecture, *rest])
    return group, "/".join(rest)


def run(root: Path) -> Iterator[tuple[str, str, list[Check] | str | Exception]]:
    """Method, case, and its checks, or why it is not counted, or the error that it ended in."""
    cases = root / "cases"
    if not cases.is_dir():
        raise ValueError(f"{root} has no folder cases/; give a folder of recorded cases")
    for marker in sorted([*cases.rglob("inputs.json"), *cases.glob("metrics/*/expected.json")]):
        method, name = method_and_case(marker.parent, cases)
        try:
            yield method, name, check(method, marker.parent, root)
        except Exception as error:  # one broken case must not hide the others
            yield method, name, error


def check(method: str, folder: Path, root: Path) -> list[Check] | str:
    """A case's checks, or why it is not counted."""
    if method == "metrics":
        return worst(list(check_metrics(folder)))
    if method not in CHECKS:
        return "not implemented"
    try:
        return worst(list(CHECKS[method](Recorded.read(folder, root))))
    except NotCoveredError as reason:
        return f"not covered: {reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row per case and the totals; 1 when a case is out of tolerance or ends in an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    torch.set_num_threads(1)
    passed = failed = 0
    for method, case, checks in run(parser.parse_args(arguments).folder):
        if isinstance(checks, str):
            print(f"{method:<10} {case:<24} {checks}", flush=True)
            continue
        if isinstance(checks, Exception):
            failed += 1
            message = " ".join(f"{type(checks).__name__}: {checks}".split())
            print(f"{method:<10} {case:<24} FAIL  {message}", flush=True)
            continue
        good = all(check.passed for check in checks)
        passed, failed = passed + good, failed + (not good)
        numbers = "  ".join(
            f"{c.output} {c.error:.1e} (<={c.tolerance:g}{'' if c.passed else ' OUT'})" for c in checks
        )
        print(f"{method:<10} {case:<24} {'pass' if good else 'FAIL'}  {numbers}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
