"""Build one site of all runs that are there: tables, figures, heatmaps, videos, and every episode to click at.

python -m eval.site
python -m eval.site --runs runs --output runs/site --n_videos 10

Opens from its folder, sent or unpacked anywhere, without a network. A suite's report that is older than its episodes
is made anew first, by that suite's own command. What cannot be read is named on the first page, and costs no other.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from eval.site import episodes, measurements, suites, trainings, twin
from eval.site.found import KINDS, Found, find
from eval.site.groups import FACTS, Group
from eval.site.media import Media
from videopolicy.config import launch
from videopolicy.data.files import read_json, replace_folder, write_json, writing
from videopolicy.errors import BadInput
from videopolicy.provenance import provenance
from videopolicy.viz.pages import page

HERE = Path(__file__).parent
MARK, NAME = "site.json", "eval.site"  # in every site, which may be written over
MIB = 2**20


@dataclass(frozen=True)
class Config:
    """Of which runs, and where."""

    runs: Path = Path("runs")
    output: Path | None = None  # null: `site` in the folder of runs
    # Which reports are made anew: those older than their episodes, all, or none.
    refresh: Literal["stale", "all", "none"] = "stale"
    n_videos: int | None = None  # of each policy on each axis, its first, that are taken along; null: all


def main(cfg: Config) -> Found:
    """What was found, and what was wrong with it; `BadInput` where there is nothing, or no place for a site."""
    output = cfg.output or cfg.runs / "site"
    if not cfg.runs.is_dir():
        raise BadInput(f"runs is {cfg.runs}, which is no folder; allowed: one that holds runs, as make demo fills")
    if cfg.n_videos is not None and cfg.n_videos < 0:
        raise BadInput(f"n_videos is {cfg.n_videos}; allowed: at least 0, or null")
    if output.exists() and not _is_ours(output):
        raise BadInput(f"output is {output}, which is no site of eval.site; allowed: one, an empty folder, a new name")
    found = find(cfg.runs, output)
    if not found:
        raise BadInput(f"{cfg.runs} holds no run; make demo fills it, or name another folder by --runs")
    for suite in found.suites:
        if cfg.refresh == "all" or (cfg.refresh == "stale" and suite.is_stale()):
            with found.noting(suite.folder):
                suite.refresh()
    with writing(output):
        replace_folder(output, partial(write, found=found, n_videos=cfg.n_videos))
    files = [p for p in output.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files) / MIB
    for where, what in found.problems:
        print(f"not shown as it should be: {where}: {what}")
    print(f"site: {output / 'index.html'} ({len(files)} files, {size:.1f} MiB)")
    return found


def _is_ours(folder: Path) -> bool:
    """Whether a folder may be written over: it is a site, or holds nothing."""
    if (folder / MARK).is_file():
        return read_json(folder / MARK).get("made_by") == NAME
    return folder.is_dir() and not any(folder.iterdir())


def write(site: Path, found: Found, n_videos: int | None) -> None:
    """All pages of a site, into a new folder."""
    media = Media(site)
    shown = [each for suite in found.suites if (each := suites.page_of(suite, found, media)) is not None]
    runs = [run for path in found.trainings if (run := trainings.page_of(path, found, media)) is not None]
    measured = [m for path in found.measurements if (m := measurements.measurement_of(path, found, media)) is not None]
    groups = [*episodes.groups_of(found, media, n_videos), *twin.groups_of(found, media)]

    kinds = {suite.kind.title for suite in found.suites}
    common: dict[str, Any] = {"suites": shown, "about": provenance(), "runs": found.runs.as_posix()}
    put = partial(_put, site, common)
    put(
        "index.html",
        "index.html.j2",
        trainings=runs,
        measurements=measured,
        groups=groups,
        problems=found.problems,
        absent=[kind for kind in KINDS.values() if kind.title not in kinds],
        by=_alone(groups, found),
    )
    for suite_page in shown:
        put(suite_page.file, "suite.html.j2", page=suite_page, n=_n_episodes(groups, suite_page.suite.name))
    put("episodes.html", "episodes.html.j2", groups=groups)
    put("training.html", "trainings.html.j2", trainings=runs)
    for training_page in runs:
        put(training_page.file, "training.html.j2", page=training_page)
    put("benchmarks.html", "measurements.html.j2", measurements=measured)

    # Pages opened from a folder may read scripts beside them, but no other files: the data is a script.
    data = json.dumps({"facts": FACTS, "groups": [asdict(g) for g in groups]})
    (site / "episodes-data.js").write_text(f"const DATA = {data};\n")
    for name in ("site.css", "episodes.js"):
        shutil.copyfile(HERE / name, site / name)
    write_json(site / MARK, {"made_by": NAME, **provenance()})


def _put(site: Path, common: dict, file: str, template: str, **values: Any) -> None:
    (site / file).write_text(page(HERE / template, file=file, **common, **values))


def _n_episodes(groups: Sequence[Group], suite: str) -> int:
    return sum(len(policy["episodes"]) for group in groups if group.suite == suite for policy in group.policies)


def _alone(groups: Sequence[Group], found: Found) -> list[Group]:
    """Groups of evaluations that belong to no suite."""
    names = {suite.name for suite in found.suites}
    return [group for group in groups if group.suite not in names]


if __name__ == "__main__":
    launch(main, Config)
