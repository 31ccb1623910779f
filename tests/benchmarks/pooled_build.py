"""A build without Prefect and Ray: the same job, its units run by a bare multiprocessing pool."""

import multiprocessing
import sys
from pathlib import Path

import cv2

from flows.job import run_job
from flows.observers import Board
from flows.settings import read_settings
from tasks.units import execute


def main(file):
    settings = read_settings(Path(file))
    context = multiprocessing.get_context("spawn")  # as Ray's workers, these start from nothing
    with context.Pool(settings.run.workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        opened = _Opened(pool)
        run_job(settings, opened.run_units, Board())
        pool.close()
        pool.join()


class _Opened:
    """Hands units to the pool, one at a time to each process, as a wave does."""

    def __init__(self, pool):
        self._pool = pool

    def run_units(self, stage, units):
        for _ in self._pool.imap_unordered(run_unit, units, chunksize=1):
            pass


def run_unit(unit):
    """Run one unit, with weights (the embedded backends have none to load) or without."""
    if not unit.actor:
        return execute(unit)
    from importlib import import_module

    return execute(unit, import_module(unit.stage).open(unit.options, "cpu"))


if __name__ == "__main__":
    main(sys.argv[1])
