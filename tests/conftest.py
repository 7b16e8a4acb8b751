"""Which tests run where, and in which order; `given.py` holds what they are given."""

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

FLOW = (
    "test_flow",
    "test_pretraining",
    "test_precision",
    "test_policy_process",
    "test_transfer_video",
    "test_ablations_run",
)  # the files that look at `folder`
LONG = (
    "test_processes",
    "test_faults",
    "test_fewshot",
    "test_ood",
    "test_episodes",
    "test_scene",
    "test_tasks",
    "test_circles",
    "test_convert",
    "test_run",
    "test_arm",
    "test_corpus",
    "test_tutorials",
    "test_docs",
    "test_site",
)  # half a minute of computing each, or more


class ByFile(LoadFileScheduling):
    """A file's tests run in one process, and those of all that look at `folder`: it is made once."""

    def _split_scope(self, nodeid: str) -> str:
        stem = Path(super()._split_scope(nodeid)).stem
        return "flow" if stem in FLOW else stem


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, or one process would end long before the other."""
    places = {stem: i for i, stem in enumerate((*FLOW, *LONG))}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_configure(config: pytest.Config) -> None:
    """A process that hands tests to others runs none: it need not import for seconds what they are given."""
    hands_on = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not hands_on:
        config.pluginmanager.import_plugin("given")
