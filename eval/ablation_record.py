"""What says that a row of the ablations' table is finished, and how it was made."""

import json

from eval.ablation_rows import Plan
from eval.episodes import OTHER, read_episodes
from eval.training import refuse
from videopolicy.data.files import read_json, reading, replace
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

RECORD = "row.json"  # in a row's folder


def keep(p: Plan, peak: int) -> None:
    """Write it; `peak` is the most memory [bytes] that its programs took."""
    about = {
        "trained": p.joint.asked(),
        "rolled_out": p.protocol,
        "weights": checkpoint.weights_digest(checkpoint.find(p.joint.run)),
        "source": p.joint.source_digest(),
        "peak_gib": round(peak / 2**30, 2),
    }
    text = json.dumps(about, indent=1, default=str) + "\n"
    replace(p.folder / RECORD, lambda path: path.write_text(text))


def rolled_out(p: Plan) -> bool:
    """Whether a row is finished; its checkpoints need not be there any more.

    `BadInput` where it was trained or rolled out otherwise, or from another stage one than there is now.
    """
    path = p.folder / RECORD
    if not path.is_file():
        if p.joint.run.is_dir():
            p.joint.done()  # or it refuses
        return False
    with reading(path):
        record = read_json(path)
        trained, acted, weights, source = (record[key] for key in ("trained", "rolled_out", "weights", "source"))
    refuse(str(p.folder), "was trained", trained, p.joint.asked())
    refuse(str(p.folder), "was rolled out", acted, p.protocol)
    if (now := checkpoint.steps(p.joint.run)) and checkpoint.weights_digest(now[-1]) != weights:
        raise BadInput(f"{p.folder} was rolled out with other weights than {p.joint.run} has now; {OTHER}")
    if p.video and (now := checkpoint.steps(p.video.run)) and checkpoint.weights_digest(now[-1]) != source:
        raise BadInput(f"{p.folder} was begun from other weights than {p.video.run} has now; {OTHER}")
    n = len(read_episodes(p.folder / "rollout"))
    if n < p.n_episodes:
        raise BadInput(f"{p.folder} is finished, but has {n} of {p.n_episodes} episodes; {OTHER}")
    return True
