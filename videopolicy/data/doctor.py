"""Look a dataset over: counts, tables, videos, cameras, checksums; and cut it back to its sound beginning.

python -m videopolicy.data.doctor data/left_half
python -m videopolicy.data.doctor data/left_half --repair

Exit status: 0 sound, 1 not sound, 2 no dataset.
"""

import argparse
from pathlib import Path

from videopolicy.config import guarded
from videopolicy.data.files import lock_folder
from videopolicy.data.findings import Findings, examine
from videopolicy.data.format import read_info
from videopolicy.data.repair import finish, repair


def main(root: Path, mend: bool = False) -> Findings:
    """Print what is wrong with a dataset; with `mend`, then cut it back and say so."""
    if mend:
        return _mended(root)
    found = _examined(root)
    if not found.sound and found.n_sound:
        print(f"--repair cuts it back to {found.n_sound} episodes, and keeps the whole beside it")
    return found


def _mended(root: Path) -> Findings:
    """What a dataset is after its repair, during which nothing is recorded into it."""
    finish(root)
    read_info(root)  # or there is no folder to hold
    with lock_folder(root):
        found = _examined(root)
        kept = repair(found)
        if kept is None:
            print("nothing to repair")
            return found
        print(f"cut back to {found.n_sound} of {found.n_episodes} episodes; the whole is kept as {kept}")
        return examine(root)


def _examined(root: Path) -> Findings:
    found = examine(root)
    print("\n".join(found.lines()))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--repair", action="store_true", help="cut it back to the episodes before the first error")
    given = parser.parse_args()
    raise SystemExit(0 if guarded(lambda: main(given.dataset, given.repair)).sound else 1)
