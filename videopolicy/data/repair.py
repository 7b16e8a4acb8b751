"""A dataset cut back to the episodes before its first error; the whole stays beside it."""

import json
import os
import shutil
from pathlib import Path

from videopolicy.data import cameras, checksums
from videopolicy.data.files import LOCK, make_folder, reading, replace, writing
from videopolicy.data.findings import Findings, examine
from videopolicy.data.format import EXTRAS, MARKERS, STATISTICS, TASKS, all_files, aside_of
from videopolicy.data.packing import shared
from videopolicy.data.recording import summarize
from videopolicy.errors import BadInput

REWRITTEN = (LOCK, "meta/info.json", EXTRAS, STATISTICS, checksums.FILE, TASKS, cameras.FILE, MARKERS)


def repair(found: Findings) -> Path | None:
    """Put a dataset's sound beginning in its place; where the whole is now, or None where it was sound.

    For the process that has held its folder since it was examined. It is made aside, of links to the files, examined,
    and only then put in place. `BadInput` where nothing is sound, or episodes share files.
    """
    root, aside = found.root.resolve(), aside_of(found.root)
    if found.sound:
        return None
    if shared(found.rows, found.info):
        raise BadInput(f"{root} has files of several episodes each, which are not cut apart: nothing was changed")
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
    root, aside = root.resolve(), aside_of(root)
    left = [path.name for path in root.iterdir()] if root.is_dir() else []
    if not set(left) <= {LOCK} or not aside.is_dir() or not examine(aside).sound:
        return
    with writing(root):
        if root.is_dir():  # somebody tried to record meanwhile, and was told of the repair
            shutil.rmtree(root)
        aside.rename(root)


def _beginning(found: Findings, aside: Path) -> None:
    """Write the first `found.n_sound` episodes as a dataset of their own."""
    rows = found.rows[: found.n_sound]
    make_folder(aside / "meta")
    own = [all_files(row, found.info) for row in rows]
    shared = [name for name in (TASKS, cameras.FILE, MARKERS) if (found.root / name).is_file()]
    for name in (*shared, *_others(found.root), *(name for names in own for name in names)):
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        _link(found.root / name, aside / name)
    checksums.record(aside, shared)
    extras = (found.root / EXTRAS).read_bytes().splitlines()[: len(rows)] if (found.root / EXTRAS).is_file() else []
    if extras:
        replace(aside / EXTRAS, lambda path: path.write_bytes(b"".join(line + b"\n" for line in extras)))
    for e, names in enumerate(own):
        checksums.record(aside, names, e, json.loads(extras[e]) if e < len(extras) else None)
    counts = {
        "total_episodes": len(rows),
        "total_frames": sum(row["length"] for row in rows),
        "splits": {"train": f"0:{len(rows)}"},
    }
    replace(aside / "meta/info.json", lambda path: path.write_text(json.dumps(found.info | counts, indent=2)))
    with reading(aside / "meta/episodes"):
        summarize(aside, found.info["features"], len(rows))


def _others(root: Path) -> list[str]:
    """What lies beside the episodes and is not ours to know: a card, pictures, other tools' files; as it is."""
    episodes = ("data/", "videos/", "meta/episodes/")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return [n for n in names if not n.startswith(episodes) and n not in REWRITTEN]


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the disk can, otherwise a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        with reading(source), writing(target):
            shutil.copy2(source, target)
