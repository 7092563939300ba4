"""Where a graph's answers come from: a service elsewhere, or a store served on this machine."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aftershock.kg.client import Client, Patience
from aftershock.kg.endpoint import serve
from aftershock.kg.graph import find_graph

LOCAL_SECONDS = 600  # for one query: nobody else waits for a store of our own


@contextmanager
def connect(source: Mapping[str, Any], store: str | os.PathLike | None) -> Iterator[Client]:
    """Yield a client of a graph; `source` is its entry under `kgs` in the config.

    An entry with a `url` is asked there. Otherwise the store folder is served for as long as the block runs.
    """
    graph = find_graph(source["namespace"])
    if "url" in source:
        yield Client(source["url"], graph, source["contact"])
    else:
        with serve(store, LOCAL_SECONDS) as url:
            yield Client(url, graph, patience=Patience(seconds=LOCAL_SECONDS + 15))
