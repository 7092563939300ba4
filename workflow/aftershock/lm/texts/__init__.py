"""Tokenisation of texts: the tokenizer's rules, text around prompts, and token positions.

`reading` turns prompts, targets and documents into tokens, with `beginning` and `frames` around them;
`tokens` finds prompt, subject and target in these. `tokenizer_files` and `sentencepiece_files` have a
tokenizer's own rules, `special_tokens` texts that spell a special one, `documents` what is in files of text,
`chat` answers to messages.
"""
