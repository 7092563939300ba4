"""The tables that set a run beside the paper it follows: reported figures, what differs, and claims."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.paper.claims import claims, read_claims
from aftershock.paper.reported import Circumstances, Study, reported
from aftershock.tables import Table, provenance_of
from aftershock.tables.report import CLAIMS, REPORTED, REPORTED_NOTES


def study_tables(
    summary: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
    folder: Path,
    about: Mapping[str, Any],
    scored: Mapping[str, Path],
    comparisons: pd.DataFrame | None = None,
) -> dict[str, tuple[Table, pd.DataFrame]]:
    """Tables by file name, each with its schema.

    `folder` is resources/paper, `about` has the fields of Circumstances, `scored` for each model a table that
    it was loaded for, whose provenance names the software; `comparisons` has COMPARISONS rows.
    """
    study = Study.read(folder)
    circumstances = Circumstances(**about)
    software = {model: {"software": _software(provenance_of(path))} for model, path in scored.items()}
    models = {model: {**circumstances.models.get(model, {}), **words} for model, words in software.items()}
    circumstances = replace(circumstances, models={**circumstances.models, **models})
    figures, notes = reported(summary, runs, study, circumstances)
    stated = read_claims(folder / "claims.yaml")
    verdicts = claims(summary, circumstances.editors, stated, study, comparisons)
    return {
        "reported": (REPORTED, figures),
        "reported_notes": (REPORTED_NOTES, notes),
        "claims": (CLAIMS, verdicts),
    }


def _software(provenance: Mapping[str, Any]) -> str:
    """Versions and device in words."""
    versions = provenance.get("versions", {})
    named = [f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions]
    return ", ".join([*named, *([provenance["device"]] if "device" in provenance else [])]) or "not recorded"
