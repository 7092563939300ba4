"""Several memories of WISE merged into one."""

from aftershock.editors.wise import WiseSettings
from aftershock.editors.wise.places import appended, emptied, first_memories
from aftershock.editors.wise.ties import merge
from aftershock.lm.edits.side_memory import EMPTY_MEMORY, SideMemory

WAITING = 2  # place of the first that waits without retrieval: behind the side memory and the merged one
LATER, OLD = 0.4, 0.6  # weights of new memories and the merged one, where there is one (released code)


def merge_latest(memory: SideMemory, settings: WiseSettings) -> SideMemory:
    """Return the memory with that of the last `merge_freq` edits in one, without retrieval all that wait."""
    last = settings.merge_freq // settings.save_freq
    if not settings.retrieve:
        last = memory.changes.shape[1] - WAITING
    changes = list(memory.changes[0, -last:])
    weights = [settings.merge_weight / last] * last
    if settings.retrieve:
        least = memory.thresholds[0, -last:].min().item()
        kept = first_memories(memory, -last)
        return appended(kept, merge(changes, weights, settings.density), least, used=True)
    if memory.used[0, 1]:
        changes, weights = [*changes, memory.changes[0, 1]], [*[LATER / last] * last, OLD]
    kept = first_memories(memory, 1)
    return appended(kept, merge(changes, weights, settings.density), EMPTY_MEMORY, used=True)


def merge_all_waiting(memory: SideMemory, settings: WiseSettings) -> SideMemory:
    """Return the memory with all that wait to be merged in one, the side memory included.

    With retrieval none waits. The released code does so when the edited model is first run, once a memory has
    been full.
    """
    if settings.retrieve or int(memory.edits) < settings.save_freq:
        return memory
    side = memory.changes[0, 0]
    if side.any():
        least = memory.thresholds[0, 0].item()
        memory = emptied(appended(memory, side, least, used=False), forget=False)
    return merge_latest(memory, settings) if memory.changes.shape[1] > WAITING else memory
