"""A dataset cut back to the episodes before its first error; the whole stays beside it."""

import json
import os
import shutil
from pathlib import Path

from videopolicy.data import cameras, checksums
from videopolicy.data.files import LOCK, make_folder, reading, replace, writing
from videopolicy.data.findings import Findings, examine
from videopolicy.data.format import EXTRAS, MARKERS, TASKS, all_files, aside_of
from videopolicy.data.recording import summarize
from videopolicy.errors import BadInput


def repair(found: Findings) -> Path | None:
    """Put a dataset's sound beginning in its place; where the whole is now, or None where it was sound.

    For the process that has held its folder since it was examined. It is made aside, of links to the files, examined,
    and only then put in place. `BadInput` where nothing is sound.
    """
    root, aside = found.root.resolve(), aside_of(found.root)
    if found.sound:
        return None
    if found.n_sound == 0:
        raise BadInput(f"{root} has no sound episode before its first error: nothing was changed")
    shutil.rmtree(aside, ignore_errors=True)
    _beginning(found, aside)
    if not (again := examine(aside)).sound:
        raise BadInput(f"{aside}, cut back from {root}, is not sound either: {'; '.join(again.lines())}")
    kept = next(p for i in range(1, 1000) if not (p := root.with_name(f"{root.name}.damaged_{i}")).exists())
    with writing(root):
        root.rename(kept)
        aside.rename(root)
    return kept


def finish(root: Path) -> None:
    """Put in place what a repair had examined when it was cut short between its last two steps."""
    aside = aside_of(root)
    if not root.exists() and aside.is_dir() and examine(aside).sound:
        aside.rename(root.resolve())


def _beginning(found: Findings, aside: Path) -> None:
    """Write the first `found.n_sound` episodes as a dataset of their own."""
    rows = found.rows[: found.n_sound]
    make_folder(aside / "meta")
    own = [all_files(row, found.info) for row in rows]
    shared = [TASKS, cameras.FILE, MARKERS]
    cards = [path.name for path in found.root.iterdir() if path.is_file() and path.name != LOCK]
    for name in (*shared, *cards, *(name for names in own for name in names)):
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        _link(found.root / name, aside / name)
    checksums.record(aside, shared)
    extras = (found.root / EXTRAS).read_bytes().splitlines()[: len(rows)] if (found.root / EXTRAS).is_file() else []
    if extras:
        replace(aside / EXTRAS, lambda path: path.write_bytes(b"".join(line + b"\n" for line in extras)))
    for e, names in enumerate(own):
        more = {"extra": checksums.of_extra(json.loads(extras[e]))} if e < len(extras) else {}
        checksums.record(aside, names, episode_index=e, **more)
    counts = {
        "total_episodes": len(rows),
        "total_frames": sum(row["length"] for row in rows),
        "splits": {"train": f"0:{len(rows)}"},
    }
    replace(aside / "meta/info.json", lambda path: path.write_text(json.dumps(found.info | counts, indent=2)))
    with reading(aside / "meta/episodes"):
        summarize(aside, found.info["features"], len(rows))


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the disk can, otherwise a copy."""
    try:
        os.link(source, target)
    except OSError:
        with writing(target):
            shutil.copy2(source, target)
