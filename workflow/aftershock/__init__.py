"""Aftershock: measurement of the side effects of editing facts in a language model.

Packages, in the order of the pipeline: `kg` mines facts and logic rules from a graph, `paraphrases` finds
other wordings of prompts, `datasets` turns facts into benchmark cases, `lm` loads, trains and scores
models, `editors` changes facts in them, `experiments` takes cases through their states, `metrics` turns
observed probabilities into numbers, `figures`, `page` and `paper` show them. `config` and `tables` check
what goes in and out, `jobs` and `costs` look after runs. The modules at this level are shared by all
packages.
"""
