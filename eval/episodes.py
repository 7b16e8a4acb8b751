"""Results of an evaluation: a line for each episode, all of one code and dataset, each policy's of the same weights."""

from pathlib import Path

from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput

FILE = "episodes.jsonl"
OTHER = "name another output, or remove it"
KEYS = ("policy", "split", "episode", "outcome", "seed", "group", "commit", "digest", "dataset", "code")


def read_episodes(folder: Path) -> list[dict]:
    """Finished episodes of an evaluation's folder; none where it has not begun.

    `BadInput` where they do not belong together: episodes twice, or of different code, datasets or weights.
    """
    records = read_jsonl(folder / FILE)
    seen: set[tuple] = set()
    for number, record in enumerate(records, 1):
        if missing := [key for key in KEYS if key not in record]:
            raise BadInput(f"{folder} holds episodes of an older version, without {', '.join(missing)}; {OTHER}")
        names = (record["policy"], record["split"])
        if not all(isinstance(name, str) for name in names) or type(record["episode"]) is not int:
            raise BadInput(
                f"{folder / FILE}: line {number} is episode {record['episode']!r} of {names}; allowed: a number, names"
            )
        if (key := (str(record["policy"]), str(record["split"]), str(record["episode"]))) in seen:
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
                raise BadInput(f"{folder} mixes episodes{whose} of different {name}: {', '.join(found)}; {OTHER}")
    return records


def video_file(folder: Path, record: dict) -> Path:
    """Where an episode's video is, by its record, under its evaluation's folder."""
    return folder / "videos" / f"{record['policy']}_{record['split']}_{record['episode']:03d}.mp4"


def shift_of(records: list[dict]) -> dict:
    """Which object alone was moved, for a row of these episodes; nothing where bowl and plate were."""
    return {"shift": records[0]["shift"]} if "shift" in records[0] else {}


def finished(
    folder: Path, about: dict[str, str], digests: dict[str, str], seeds: dict[tuple[str, int], int]
) -> dict[tuple[str, str, int], dict]:
    """What an earlier run of the same evaluation has finished, by policy, split and number.

    `about` is what every line must say, `digests` what those of a policy must, `seeds` those of an episode. `BadInput`
    where a line says otherwise; lines of other policies or episodes are left alone.
    """
    records = {(r["policy"], r["split"], r["episode"]): r for r in read_episodes(folder)}
    for (name, split, number), record in records.items():
        now = {**about, "digest": digests.get(name), "seed": seeds.get((split, number))}
        for key, value in now.items():
            if value is not None and value != record[key]:
                what = {"digest": "other weights or another protocol"}.get(key, f"another {key}")
                raise BadInput(
                    f"{folder} holds episode {number} of {name!r} on {split} with {what}: {record[key]}, which"
                    f" is now {value}; {OTHER}"
                )
    return records
