"""Other wordings of a relation's prompt, asked of a language model, checked, and left to a person to keep.

`asking` says what is asked for and goes on until there are enough texts or requests. A back end answers: an
OpenAI-compatible service (`endpoint`, the only module that sees a key) or a model on this machine (`local`,
over lm/texts/chat.py). Every answer is on disk before anybody reads it (`kept`), `answers` takes a list of
texts out of what was said, `validation` says of each why it is no prompt (`language` whether it is English,
the graph's screen whether it offends), and `ranking` picks those that differ most and writes them down as
rows for resources/paraphrases.tsv. What a person keeps or drops there wins over everything in this package.
"""
