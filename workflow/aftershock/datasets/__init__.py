"""Benchmark cases made from facts: ConflictEdit (coverage, reverse, composite), RoundEdit (easy, hard).

`table` lists the datasets and the states of their cases. `known` says which of a model's answers count as
knowing, `graph_facts` indexes what the graph says and the model knows, `split` divides entities into train,
dev and test (`cut` where all hang together), `targets` draws false objects, `conflict` and `round_edit`
make cases, `probes` lists what each case is asked, `build` puts a dataset together, `invariants` checks it,
`reasons` and `shortfall` say why there are too few, `overlap` what splits share, `datasheet` describes it,
`training_data`, `mend` and `locality` make what MEND and SERAC are trained on. `released` reads and writes
the JSON format of the published files as tables, `statements` turns these into ours and ours into these,
`export` writes our datasets in that format, `convert` keeps a folder of such files as parquet, `validate`
lists what is odd in one, and `released_study` makes cases of one. Nothing here imports a tensor library.

Notation, after Li et al. (2024): a binary rule r1>r2 means r1(x, y) => r2(y, x); a chain r&r1>r2 means
r(x, y) and r1(y, z) => r2(x, z). Edits are written (subject, relation: old object -> new object).

    coverage    e1 = (s, r: o1 -> o2)    e2 = (s, r: o2 -> o3)
    reverse     e1 = (x, r1: y -> o2)    e2 = (o2, r2: x -> o3)
    composite   e1 = (y, r1: z -> z2)    e2 = (x, r2: z -> z3)    tied fact (x, r, y)
    round       e1 = (s, r: o1 -> o*)    e2 = (s, r: o* -> o1), or all true objects at once (multi-label)
"""
