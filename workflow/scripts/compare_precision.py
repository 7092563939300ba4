"""Compare the metrics of reduced and of strict precision on the same cases; fail when they differ too far."""

import pandas as pd

from aftershock.metrics.holes import cases_in
from aftershock.metrics.observed import LEAN, lean
from aftershock.metrics.precision import compare_precisions, require_accepted
from aftershock.metrics.run import score_cases
from aftershock.stage import stage
from aftershock.tables.cases import CASES, PROBES
from aftershock.tables.models import OBJECT_SCORES
from aftershock.tables.runs import OBSERVATIONS, PRECISION, TELEMETRY

with stage(snakemake) as run:
    given, compared = snakemake.input, snakemake.params.compared
    objects, scores = OBJECT_SCORES.read(given.objects), {"": [], "_strict": []}
    for i, (dataset, shard) in enumerate(compared):
        for kind, parts in scores.items():
            scored = score_cases(
                CASES.read(given.cases[i]),
                PROBES.read(given.probes[i]),
                lean(OBSERVATIONS.read_arrow(given[f"unedited{kind}"][i], LEAN)),
                {shard: lean(OBSERVATIONS.read_arrow(given[f"observations{kind}"][i], LEAN))},
                TELEMETRY.read(given[f"telemetry{kind}"][i]),
                dataset,
                [shard],
                objects,
            )
            parts.append(scored.scores.assign(dataset=dataset))
    frame = compare_precisions(pd.concat(scores["_strict"]), pd.concat(scores[""]))
    print(frame.to_string(index=False, float_format="%.4f"))
    tested = sum(len(cases_in(shard)) for _, shard in compared)
    require_accepted(frame, tested, snakemake.params.precision)
    PRECISION.write(frame, snakemake.output[0], run.provenance)
