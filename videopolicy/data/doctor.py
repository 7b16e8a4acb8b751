"""Look a dataset over: counts, tables, videos, cameras, checksums; and cut it back to its sound beginning.

python -m videopolicy.data.doctor data/left_half
python -m videopolicy.data.doctor data/left_half --repair

Exit status: 0 sound, 1 not sound, 2 no dataset, or none that can be repaired.
"""

import argparse
from pathlib import Path

from videopolicy.config import guarded
from videopolicy.data.files import lock_folder
from videopolicy.data.findings import Findings, examine
from videopolicy.data.packing import shared
from videopolicy.data.repair import finish, repair


def main(root: Path, mend: bool = False) -> Findings:
    """Print what is wrong with a dataset; with `mend`, then cut it back and say so."""
    root = root.resolve()  # whoever stands in it is moved with it
    if mend:
        finish(root)
    found = _examined(root)
    if mend and found.sound:
        print("nothing to repair")
    elif mend:
        found = _mended(root)
    elif not found.sound and found.n_sound and not shared(found.rows, found.info):
        print(f"--repair cuts it back to {found.n_sound} episodes, and keeps the whole beside it")
    return found


def _mended(root: Path) -> Findings:
    """What a dataset is after its repair, while no other program that asks for its lock writes to it."""
    with lock_folder(root):
        found = examine(root)  # again: it may have been written to
        kept = repair(found)
        print(f"cut back to {found.n_sound} of {found.n_episodes} episodes; the whole is kept as {kept}")
        return _examined(root)


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
