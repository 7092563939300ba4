"""Score the outputs of all tasks along one sequence, and keep some items to look at."""

import pandas as pd

from aftershock.metrics.abilities.answers import answers
from aftershock.metrics.abilities.examples import examples
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.stage import stage
from aftershock.tables.abilities import ITEM_ANSWERS, ITEM_EXAMPLES, ITEM_SCORES
from aftershock.tables.sequences import SEQUENCE_EDITS, TASK_ITEMS, TASK_OUTPUTS
from aftershock.tasks.definition import make_task
from aftershock.tasks.scoring import asks_about, score_items

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    edits = SEQUENCE_EDITS.read(given.edits).query("kept")
    number, parts = len(params.groups), []
    for place, (name, content) in enumerate(params.tasks.items()):
        task, info = make_task(name, content), TaskInfo.of({"name": name, **content})
        items = TASK_ITEMS.read(given.asked[place])
        paths = given.outputs[place * number : (place + 1) * number]
        outputs = TASK_OUTPUTS.read(given.unedited[place], *paths)
        scores = score_items(task, items, outputs)
        about = asks_about(items, edits) if task.source != "edits" else pd.Series(False, items.index)
        answered = answers(info, items, outputs, scores, about)
        parts.append(
            (
                answered,
                scores.assign(task=name),
                examples(info, items, outputs, scores, params.examples, params.seed),
            )
        )
    tables = ((ITEM_ANSWERS, made.answers), (ITEM_SCORES, made.scores), (ITEM_EXAMPLES, made.examples))
    for place, (table, path) in enumerate(tables):
        frames = [part[place] for part in parts] or [table.empty()]
        table.write(pd.concat(frames, ignore_index=True)[list(table.columns)], path, run.provenance)
