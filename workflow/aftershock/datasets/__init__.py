"""Benchmark cases made from facts: ConflictEdit (coverage, reverse, composite), RoundEdit (easy, hard).

`table` lists the datasets and the states of their cases. `known` decides which facts a model knows from its
answers, `graph_facts` indexes true and known facts, `split` divides entities into train, dev and test (`cut`
where they form one component), `targets` draws false objects, `conflict` and `round_edit` make cases,
`probes` lists the facts to score in each case, `build` assembles a dataset, `invariants` checks it, `reasons`
and `shortfall` explain why there are too few cases, `overlap` measures what splits share, `datasheet`
documents it, and `training_data`, `mend` and `locality` make the training data of MEND and SERAC.

`released` reads and writes the JSON format of the published files as tables, `statements` converts between
those tables and ours, `export` writes our datasets in that format, `convert` stores a folder of such files as
parquet, `validate` lists oddities in one, and `released_study` makes cases of one. Nothing here imports a
tensor library.
Notation, after Li et al. (2024): a binary rule r1>r2 means r1(x, y) => r2(y, x); a chain r&r1>r2 means
r(x, y) and r1(y, z) => r2(x, z). Edits are written (subject, relation: old object -> new object).

    coverage    e1 = (s, r: o1 -> o2)    e2 = (s, r: o2 -> o3)
    reverse     e1 = (x, r1: y -> o2)    e2 = (o2, r2: x -> o3)
    composite   e1 = (y, r1: z -> z2)    e2 = (x, r2: z -> z3)    tied fact (x, r, y)
    round       e1 = (s, r: o1 -> o*)    e2 = (s, r: o* -> o1), or all true objects at once (multi-label)
"""
