"""Access to knowledge graphs: facts, rule instances, one-to-many keys and their names.

Stages query a `source`, which `source.connect` opens for as long as a job runs: a SPARQL endpoint
(`endpoint_source`); an RDF file loaded into a store (`store`) that an embedded endpoint serves (`endpoint`);
or a dump (`dump_source`). All give the same rows.

A client (`client`, over `transport` and `answers`) sends queries (`queries`), which differ between graphs
(`graph`) in two PREFIX lines only, and rejects incomplete answers. Long answers are read in pages that are
checked against counts (`pages`), names in batches (`names`). Complete answers of a service are kept on disk
(`cache`), and all processes on one machine that query it take turns (`gate`; both over `locks`). `plan`
estimates the requests of mining without sending any.

A dump of any size is read once, in `blocks` of lines that are parsed with array operations (`dump`, `words`;
the few unusual lines one by one, `terms`), and sorted on disk into a table per relation (`partitions`).

There is a module for each stage: `sample` samples facts, `rules` mines logic rules (`logic` has their
notation) from them, `combinations` finds the instances of a rule and the keys with several objects, `labels`
looks up names, `filters` selects what can become a case, `summary` counts what each step leaves, and
`datasheet` documents all of it. `sheets` reads resources/*.tsv, `world` generates the graph of the demo, and
`taught` selects training facts. `atlas` makes a graph of real facts from the data of other packages.
`triples` writes both graphs.
"""
