"""A run of the arm as a Rerun recording, to be looked at moment by moment.

python -m robot.timeline runs/robot/2026-01-31_12-00-00 [--output recording.rrd]

Made of the telemetry, and of the pictures of a run with --pictures. A recording that is there is made anew.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from robot import pictures, telemetry
from robot.program import start
from videopolicy.data.files import reading, replace
from videopolicy.errors import BadInput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a run's telemetry")
    parser.add_argument("--output", type=Path, help="recording.rrd in that folder, if not given")
    args = parser.parse_args()
    if find_spec("rerun") is None:
        raise BadInput("a timeline needs Rerun, which is not installed: pip install -e '.[rerun]' -c constraints.txt")
    output = args.output or args.folder / "recording.rrd"
    n_ticks, n_pictures = make(args.folder, output)
    print(f"{output}: {n_ticks} ticks, {n_pictures} pictures; to look at it: rerun {output}")


def make(folder: Path, output: Path) -> tuple[int, int]:
    """Write the recording of a folder; how many ticks and pictures it holds. `BadInput` names what is damaged."""
    if not telemetry.files(folder):
        raise BadInput(f"no telemetry in {folder}; allowed: a folder of robot.run, as runs/robot/<date>")
    if output.is_dir():
        raise BadInput(f"--output is the folder {output}; allowed: a file")
    from robot.rerun_file import recorded  # Rerun is a package of those who ask for it

    looks = pictures.files(folder)
    with reading(folder):
        ticks = telemetry.read(folder)
        data = recorded(ticks, looks)
    replace(output, lambda path: path.write_bytes(data))
    return ticks.num_rows, len(looks)


if __name__ == "__main__":
    start(main)
