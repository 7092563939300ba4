"""Experiments on a model: cases in all their states, tuning, layer sweeps, and known facts.

`queries` turns tables of cases into edit requests and scored prompts, `states` makes the edits that lead to
each state of a block of cases, `cases` scores the cases in all of them, and `health` measures the changes
themselves. `tuning` chooses an editor's settings on dev cases, `sweep` tries editors layer by layer, and
`settling` reads text until the directions whitened by second moments have settled. `knowledge` and `recall`
measure known facts, `tracing` finds the layers that retrieve them, and `paraphrase_scores` compares prompts
of a relation.
"""
