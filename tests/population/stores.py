"""Toy members that are kept in a store."""

from unlearn_jax.population.run import Options


def kept_in(store, **more):
    """Four members to a chunk, kept in ``store``."""
    return Options(**{"chunk": 4, "store": store, "label": "toy"} | more)


def stop_late(done, shown):
    """Progress of eight members that ends the run within the second chunk."""
    if done > 4:
        raise KeyboardInterrupt


def chunk_folders(store):
    """The folders of stored chunks."""
    return sorted(path for path in store.iterdir() if path.is_dir())
