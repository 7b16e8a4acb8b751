"""Episodes on the arm's twin, for the page of positions: pictures of the first ones stand on a sheet."""

import io
import shlex
from pathlib import Path
from typing import Any

from PIL import Image

from eval.site.found import Found, Suite
from eval.site.groups import AGAIN, FACTS, TWIN, Group
from eval.site.media import Media
from videopolicy.data.files import read_jsonl
from videopolicy.names import label
from videopolicy.rates import rates

N_SHOWN = 4  # rows of a sheet that does not say how many it has


def groups_of(found: Found, media: Media) -> list[Group]:
    """Of all trials; what cannot be read is noted."""
    groups: dict[tuple[str, str], Group] = {}
    for suite in found.suites:
        for path in sorted(suite.folder.glob("trials/*/*.jsonl")):
            with found.noting(path):
                _add(groups, suite, path, media)
    return [group for group in groups.values() if group.policies]


def _add(groups: dict, suite: Suite, path: Path, media: Media) -> None:
    condition, policy, lines = path.parent.name, path.stem, read_jsonl(path)
    lines.sort(key=lambda line: line["episode"])
    # Seen from behind the arm: x away from it is up, y to its left.
    twin = Group(suite.name, condition, f"The arm's twin: {condition.replace('_', ' ')}", TWIN, (0, -1), (-1, 0))
    group = groups.setdefault((suite.name, condition), twin)
    rows = rows_of(path.with_suffix(".jpg"), media, len(lines))
    outcomes = ["place" if line["place"] else "grasp" if line["grasp"] else "miss" for line in lines]
    entry: dict[str, Any] = {"name": policy, "label": label(policy), "rates": rates(outcomes), "trained": None}
    played = policy if policy == "oracle" else f"{policy}=RUN"
    words = ["python", "-m", "robot.trials", "--robot", "ROBOT.yaml", "--policy", played, "--condition", condition]
    where = f"row {{n}} of {AGAIN}/{condition}/{policy}.jpg; ROBOT.yaml and RUN are those of the trials"
    entry |= {"command": f"{shlex.join(words)} --n {{n}} --n_shown {{n}} --output {AGAIN}", "where": where}
    entry["episodes"] = []
    for line, outcome in zip(lines, outcomes, strict=True):
        row = rows[line["episode"]] if line["episode"] < len(rows) else None
        facts = dict.fromkeys(FACTS) | {FACTS[0]: "{:.3f}, {:.3f}".format(*line["cup"]), "plans": line["n_chunks"]}
        shown = {"n": line["episode"], "o": outcome, "xy": line["cup"], "view": None, "m": None, "row": row}
        entry["episodes"].append(shown | {"f": [None if f is None else str(f) for f in facts.values()]})
    group.policies.append(entry)


def rows_of(sheet: Path, media: Media, n: int) -> list[str]:
    """The rows of a contact sheet of `n` episodes, each a picture."""
    if not sheet.is_file():
        return []
    found = []
    with Image.open(sheet) as whole:
        n_rows = int(whole.info.get("comment", min(N_SHOWN, n)))
        height = whole.height // n_rows
        for i in range(n_rows):
            buffer = io.BytesIO()
            whole.crop((0, i * height, whole.width, (i + 1) * height)).save(buffer, "JPEG", quality=92)
            found.append(media.write(buffer.getvalue(), f"{sheet.parent.name}-{sheet.stem}-{i}", ".jpg"))
    return found
