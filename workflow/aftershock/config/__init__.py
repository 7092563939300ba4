"""The configuration of a run, checked as a whole before any job starts. Nothing here loads torch.

    run        check_config: the schema first, then every check below; all errors are listed at once
    graphs     the graphs in use, their files, and what the screen leaves out
    models     the models' files, those of models that write or rank paraphrases among them
    editors    labels, methods, and what hinders the training of a hypernetwork
    paths      files and folders that a configuration names
    sequences  plans of edits, the files that they are read from, and tasks along them
    used       the graphs, models and editors that the stages of a run use; nothing is asked of any other
    settings   the settings of a method for one model: the method's, the model's, the run's
    fetched    sources on disk; check_fetched: folders of weights that are there and cannot be used
    tasks      the tasks of a run, and the files of their data
    sheets     relations.tsv, rules.tsv and paraphrases.tsv, and what a run takes from them

A check is a function that yields one line per error, naming the key and what to do about it.
"""

from aftershock.config.fetched import check_fetched
from aftershock.config.run import check_config
from aftershock.config.settings import merged_settings

__all__ = ["check_config", "check_fetched", "merged_settings"]
