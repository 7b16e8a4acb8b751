"""What a policy was trained on, also by the datasets mixed in and by the run that it was begun from."""

from pathlib import Path

from eval.suites import TRAINED_ON, Split
from videopolicy import exported
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint


def check_lineage(name: str, run: Path, splits: tuple[Split, ...]) -> None:
    """`BadInput` where a policy may have seen what a split tests; checkpoints from before say nothing of it."""
    state = exported.read(run)[1] if exported.is_one(run) else checkpoint.read_state(checkpoint.find(run))
    seen = state.get("seen", [])[1:]  # the first is `data`, compared elsewhere
    for split in splits:
        wanted = TRAINED_ON.get(split, "all")
        for each in seen:
            if each["positions"] and wanted not in ("all", each["select"]):
                raise BadInput(
                    f"{name} was also trained on {each['root']} ({each['select']}), where the positions that {split}"
                    f" tests may have been seen; allowed for it: data.select {wanted!r} alone"
                )
