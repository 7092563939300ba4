"""Offline mode of all jobs but those that fetch: the others use local files only.

Nodes of a cluster often have no network, where a library that looks for a newer file waits long or fails with
a message about connections; and where they have one, it may find another file than the one that was fetched.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
UNTRACKED = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def go_offline() -> None:
    """Keep this process and all that it starts off the Hub, whatever the environment variables say.

    Libraries read these variables when they are imported, so this comes first: Snakemake calls it when it
    reads the workflow, in the process that starts a job, here or on another machine.
    """
    os.environ.update(dict.fromkeys((*OFFLINE, *UNTRACKED), "1"))


@contextmanager
def online() -> Iterator[None]:
    """Context manager: this process may access the Hub."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
