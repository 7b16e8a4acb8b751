"""Results of an evaluation: a line for each episode, all of one code and dataset, each policy's of the same weights."""

from pathlib import Path

from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput

FILE = "episodes.jsonl"
KEYS = ("policy", "split", "episode", "outcome", "seed", "group", "commit", "digest", "dataset", "code")


def read_episodes(folder: Path) -> list[dict]:
    """Finished episodes of an evaluation's folder; none where it has not begun.

    `BadInput` where they do not belong together: episodes twice, or of different code, datasets or weights.
    """
    records = read_jsonl(folder / FILE)
    other = "name another output, or remove that folder"
    seen: set[tuple] = set()
    for number, record in enumerate(records, 1):
        if missing := [key for key in KEYS if key not in record]:
            raise BadInput(f"{folder} holds episodes of an older version, without {', '.join(missing)}; {other}")
        if (key := (record["policy"], record["split"], record["episode"])) in seen:
            raise BadInput(f"{folder / FILE}: line {number} is episode {key[2]} of {key[0]} on {key[1]} once more")
        seen.add(key)
    for what, groups in (
        ("code", {"": records}),
        ("dataset", {"": records}),
        ("digest", {p: [r for r in records if r["policy"] == p] for p in {r["policy"] for r in records}}),
    ):
        for policy, mine in sorted(groups.items()):
            if len(found := sorted({str(r[what]) for r in mine})) > 1:
                name = {"digest": "weights or protocols"}.get(what, f"{what}s")
                whose = f" of {policy!r}" if policy else ""
                raise BadInput(f"{folder} mixes episodes{whose} of different {name}: {', '.join(found)}; {other}")
    return records
