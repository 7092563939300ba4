"""Access to knowledge graphs: facts, rule instances, one-to-many keys and their names.

Stages ask a `source`, which `source.connect` opens for as long as a job runs: a SPARQL endpoint
(`endpoint_source`), a file that became a store (`store`), served by an embedded endpoint (`endpoint`), or a
dump (`dump_source`). All give the same rows.

A client (`client`, over `transport` and `answers`) sends queries (`queries`), which differ between graphs
(`graph`) in two PREFIX lines only, and takes no broken answer for data. Long answers are read in pages that
are checked against counts (`pages`), names in batches (`names`). Whole answers of a service are kept on disk
(`cache`), and all who ask it from one machine take turns (`gate`; both over `locks`). `plan` shows what
mining would ask, with nothing sent.

A dump of any size is read once, in `blocks` of lines that array operations take apart (`dump`, `words`; the
few unusual lines one by one, `terms`), and sorted on disk into a table per relation (`partitions`).

On these stands one module per stage: `sample` takes facts, `rules` mines logic rules (`logic` is their
notation) from them, `combinations` finds where a rule holds and who has several objects, `labels` looks up
names, `filters` says what can become a case, `summary` counts what each step leaves, and `datasheet` writes
all of it down. `sheets` reads resources/*.tsv, `world` generates the graph of the demo, and `taught` chooses
what a model learns. `atlas` makes a graph of real facts from the data of other packages.
`triples` writes both graphs.
"""
