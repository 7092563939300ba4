"""Benchmark tasks: what is asked of a model beside the edited facts.

    definition     a task and a suite as their files in resources/tasks/ have them; overview lists them
    sources        the rows of a benchmark, from a local folder or from the Hub; downloads brings the latter
    templates      the templates and expressions over rows that tasks' files are written in
    prepare        rows as the items of a task, with the examples before them
    entities, edited, world   fields of items made of sentences, of a plan's edits, of a graph
    reading        items as tokens; builtin and harness, the engines that ask them of a model
    judge          answers judged by another model
    answers        answers in generated texts; instructions, those about the form of an answer
    agreement      agreement of texts
    metrics        the metrics by name: the value of an item, and the value of many
    scoring        outputs of an engine as values of metrics, item by item; items about edited facts

Only the engines, reading and downloads need more than tables: they load torch, or ask the Hub.
"""
