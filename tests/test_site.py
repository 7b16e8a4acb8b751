"""The site of all runs: every page, every link and number; what is damaged, and what may not be written over."""

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import sites
from builders import snapshot
from PIL import Image

from eval import rollout
from eval.episodes import read_episodes
from eval.protocol import check
from eval.site.__main__ import MARK, Config, main
from eval.site.fragment import Fragment
from eval.site.media import Media
from videopolicy.config import load
from videopolicy.data.files import read_json
from videopolicy.errors import BadInput
from videopolicy.rates import rates

RATES = ("n", "place", "grasp", "weighted", "wilson95", "wilson95_grouped")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sites.make(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def site(runs: Path) -> Path:
    """Of the runs, where nobody finds them any more: all that a page needs comes with it."""
    found = main(Config(runs))
    assert found.problems == []
    return Path(shutil.copytree(runs / "site", runs.parent / "elsewhere"))


class Links(HTMLParser):
    """What a page names: `links` to files, its own `anchors`."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.anchors = list[str](), set[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [given[key] or "" for key in ("src", "href") if key in given]
        self.anchors |= {given["id"] or ""} if "id" in given else set()


def data(site: Path) -> dict:
    text = (site / "episodes-data.js").read_text()
    return json.loads(text.removeprefix("const DATA = ").removesuffix(";\n"))


def groups(site: Path) -> dict[tuple[str, str, str], dict]:
    return {(g["suite"], g["split"], g["executor"]): g for g in data(site)["groups"]}


def test_every_kind_of_run_has_its_page(site: Path) -> None:
    names = {p.stem for p in site.glob("*.html")}
    suites = {"suite-ood", "suite-fewshot", "suite-demo-robot"}
    assert names == {"index", "episodes", "training", "benchmarks", "training-ood-left-para"} | suites
    index = (site / "index.html").read_text()
    assert "<code>make demo</code>" in index  # which is not there yet
    assert "<code>make demo-robot</code>" not in index
    assert "rolled out at c0ffee1" in index  # by what made the episodes, not by what made the report of them


def test_links_lead_to_files_of_the_site_alone(site: Path) -> None:
    named = set()
    for page in site.glob("*.html"):
        for link in Links(page).links:
            if link == "data:,":
                continue
            assert not re.match(r"[a-z]+:|/", link), f"{page.name} leads away, to {link}"
            file, _, anchor = link.partition("#")
            assert (site / unquote(file or page.name)).is_file(), f"{page.name} has the dead link {link}"
            if anchor and "=" not in anchor:
                assert anchor in Links(site / (file or page.name)).anchors, f"{page.name} has the dead link {link}"
            named.add(file)
    episodes = [e for g in data(site)["groups"] for p in g["policies"] for e in p["episodes"]]
    named |= {link for e in episodes for link in (e["m"], e.get("row")) if link}
    assert {f"media/{p.name}" for p in (site / "media").iterdir()} == {n for n in named if n.startswith("media/")}
    script = (site / "episodes.js").read_text().replace("http://www.w3.org/2000/svg", "")
    assert "://" not in (site / "site.css").read_text() + script


def test_numbers_are_those_of_the_summaries(runs: Path, site: Path) -> None:
    """On the first page, on the suite's own, and where episodes are shown."""
    index, page = ((site / name).read_text() for name in ("index.html", "suite-ood.html"))
    summary = read_json(runs / "ood/summary.json")
    rows = summary["rows"] + summary["osc"] + summary["oracle"]
    assert len(rows) == 8
    for row in rows:
        low, high = row["wilson95"]
        shown = f'<td><b>{row["place"]:.1f}</b></td><td class="wilson">{low:.1f} \u2013 {high:.1f}</td>'
        assert f"<td>{row['n']}</td>{shown}" in index
        assert f"<td><b>{row['place']:.1f}</b></td><td>{low:.1f} \u2013 {high:.1f}</td>" in page
        policies = groups(site)["ood", row["axis"], row["executor"]]["policies"]
        (rated,) = [p["rates"] for p in policies if p["name"] == row["policy"]]
        assert [rated[key] for key in RATES] == [row[key] for key in RATES]
    for name in ("fewshot", "demo_robot"):  # whose reports the site had made
        (row,) = read_json(runs / name / "summary.json")["rows"]
        assert f"<td>{row['n']}</td><td><b>{row['place']:.1f}</b>" in index


def test_a_suites_page_is_its_report(runs: Path, site: Path) -> None:
    """Every word and every picture of it; the bytes stand in files."""
    kept = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", (runs / "ood/report.html").read_text(), flags=re.DOTALL)
    page = (site / "suite-ood.html").read_text()
    assert kept.count("<img") + kept.count("<video") == page.count("<img") + page.count("<video") > 5
    assert "base64" not in page
    words = [" ".join(re.sub(r"<[^>]*>", " ", text).split()) for text in (kept, page)]
    start = words[1].index("Policies of one axis share")
    assert words[0][words[0].index("Policies of one axis share") :] in words[1][start:]
    assert '<h2 id="hemisphere">' in page


def test_every_episode_is_there_with_its_video(runs: Path, site: Path) -> None:
    found = groups(site)
    records = read_episodes(runs / "ood/rollout/left_right_teleport")
    shown = {(p["name"], e["n"]): e for p in found["ood", "left_right", "teleport"]["policies"] for e in p["episodes"]}
    assert shown.keys() == {(r["policy"], r["episode"]) for r in records}
    for r in records:
        episode = shown[r["policy"], r["episode"]]
        assert (episode["o"], episode["xy"]) == (r["outcome"], r["bowl_xy"])
        assert (episode["m"] is None) == (r["policy"] == "regression")  # whose videos are gone
        if episode["m"]:
            video = runs / f"ood/rollout/left_right_teleport/videos/{r['policy']}_left_right_{r['episode']:03d}.mp4"
            assert (site / episode["m"]).read_bytes() == video.read_bytes()
    (para, *_) = found["ood", "left_right", "teleport"]["policies"]
    assert (
        found["ood", "left_right", "teleport"]["trained"][para["trained"]] == sites.TRAINED[1:]
    )  # the first is held out
    twin = found["demo_robot", "in_distribution", "twin"]["policies"][0]
    assert [e["o"] for e in twin["episodes"]] == ["miss", "place", "place", "grasp", "place", "place"]
    assert rates([e["o"] for e in twin["episodes"]]) == twin["rates"]
    with Image.open(site / twin["episodes"][3]["row"]) as row:
        assert row.size == (3 * (64 + 8), 64 + 8)
    assert [e["row"] is None for e in twin["episodes"]] == [False] * 4 + [True] * 2
    assert "--n_shown {n}" in twin["command"]


def test_the_command_for_a_missing_video_records_it(site: Path) -> None:
    """One that rolls out this very policy on this axis, up to the episode."""
    _, regression, oracle = groups(site)["ood", "left_right", "teleport"]["policies"]
    for policy, runs_it, counts in ((regression, ["regression"], (6, 40)), (oracle, ["para", "regression"], (0, 6))):
        words = shlex.split(policy["command"].replace("{n}", "6"))
        assert words[:3] == ["python", "-m", "eval.rollout"]
        cfg = load(rollout.Config, words[3:])
        check(cfg)
        assert (list(cfg.policies), cfg.splits, cfg.executor) == (runs_it, ("left_right",), "teleport")
        assert (cfg.n_episodes, cfg.n_oracle if cfg.oracle else 40) == counts
        assert policy["where"] == f"{cfg.output}/videos/{policy['name']}_left_right_{{number}}.mp4"


def test_training_and_benchmarks_are_shown(site: Path) -> None:
    page, table = ((site / name).read_text() for name in ("training-ood-left-para.html", "training.html"))
    assert re.search(r'<img src="media/losses-[^"]+\.svg"', page)
    assert (
        page.index('<video src="media/clips-000040')
        < page.index("<summary>earlier: step 20")
        < page.index("clips-000020")
    )
    assert "<td>15.4</td>" not in table
    assert "<td>7.7</td>" in table  # the last validation's millimetres
    (svg,) = (site / "media").glob("losses-*.svg")
    assert "loss in training" in svg.read_text()
    benchmarks = (site / "benchmarks.html").read_text()
    assert "<td>61.25</td><td>\u2013</td>" in benchmarks
    assert "python -m bench.heads --json" in benchmarks


def test_what_is_damaged_is_named_and_costs_nothing_else(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    where = sites.damaged(runs, tmp_path / "runs")
    found = main(Config(where, tmp_path / "site", refresh="none"))
    assert {name for name, _ in found.problems} == {
        "ood/left/para",
        "light/rollout",
        "bench/heads.json",
        "demo_robot",
        "demo_robot/trials/in_distribution/para.jsonl",
    }
    index, said = (tmp_path / "site/index.html").read_text(), capsys.readouterr().out
    for name, what in found.problems:
        assert f"<li><b>{name}</b>: " in index
        assert f"not shown as it should be: {name}: {what}\n" in said
        assert "\n" not in what
    assert {p.name for p in (tmp_path / "site").glob("suite-*.html")} == {"suite-ood.html", "suite-fewshot.html"}
    assert ("ood", "left_right", "osc") in groups(tmp_path / "site")


def test_a_report_that_cannot_be_made_is_named_with_its_reason(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "demo_robot", tmp_path / "runs/demo_robot")
    (tmp_path / "runs/demo_robot/report.html").unlink()
    trials = tmp_path / "runs/demo_robot/trials/in_distribution/para.jsonl"
    trials.write_text(trials.read_text() * 2)
    found = main(Config(tmp_path / "runs"))
    assert "para.jsonl has 12 lines of 6 episodes; remove it" in found.problems[0][1]
    assert "report.html is missing" in found.problems[1][1]


def test_a_damaged_checkpoint_costs_no_episode(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "light", tmp_path / "runs/light")
    config = tmp_path / "runs/light/rollout/config.yaml"
    config.write_text(config.read_text().replace("runs/light/para", str(tmp_path / "para")))
    (tmp_path / "para/step_000001").mkdir(parents=True)
    (tmp_path / "para/step_000001/config.json").write_text("{")
    found = main(Config(tmp_path / "runs"))
    assert [name for name, _ in found.problems] == ["light/rollout"]
    assert "step_000001/config.json" in found.problems[0][1]
    para, oracle = groups(tmp_path / "runs/site")["light/rollout", "seen", "teleport"]["policies"]
    assert (len(para["episodes"]), para["trained"], len(oracle["episodes"])) == (4, None, 1)
    index = (tmp_path / "runs/site/index.html").read_text()
    assert f"<td>4</td><td><b>{para['rates']['place']:.1f}</b></td>" in index  # of no suite, and yet on the first page


def test_a_report_brings_no_script(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/beside.png").write_bytes(b"y")
    report = tmp_path / "suite/report.html"
    report.write_text(
        "<title>t</title><script>alert(1)</script><h1>Bowl &amp; plate</h1>"
        '<p onclick="alert(2)">1 &lt; 2 <b>yes</b></p><img src="https://example.org/a.png" alt="away">'
        '<img src="../secret.png" alt="above"><img src="beside.png" alt="b"><a href="javascript:alert(3)">word</a>'
        '<video src="data:text/html;base64,PGI+"></video><iframe src="x"></iframe>'
    )
    fragment = Fragment(report, Media(tmp_path / "site"))
    assert fragment.title == "Bowl & plate"
    assert fragment.missing == ["away", "above", "video"]
    link = re.search(r'<img src="(media/beside-[0-9a-f]+\.png)" alt="b"></a>word', fragment.html)
    assert link
    assert (tmp_path / "site" / link[1]).read_bytes() == b"y"
    assert fragment.html.startswith("<p>1 &lt; 2 <b>yes</b></p>")
    assert not re.search("alert|script|iframe|example", fragment.html)


def test_built_again_it_is_the_same(runs: Path, site: Path) -> None:
    """Byte for byte; and a site that is written over holds no page that is gone."""
    before = snapshot(site)
    (runs / "site/old.html").write_text("")
    main(Config(runs))
    assert snapshot(runs / "site") == before


def test_fewer_videos_make_a_smaller_site(runs: Path, tmp_path: Path) -> None:
    main(Config(runs, tmp_path / "site", refresh="none", n_videos=1))
    kept = [e["n"] for g in data(tmp_path / "site")["groups"] for p in g["policies"] for e in p["episodes"] if e["m"]]
    assert set(kept) == {0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": "nowhere"}, "runs is .*nowhere, which is no folder"),
        ({"runs": "empty"}, "empty holds no run; make demo fills it"),
        ({"output": "full"}, "output is .*full, which is no site of eval.site; allowed"),
        ({"output": "full/precious.txt"}, "output is .*precious.txt, which is no site"),
        ({"n_videos": -1}, "n_videos is -1; allowed: at least 0, or null"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(runs: Path, tmp_path: Path, changes: dict, words: str) -> None:
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/precious.txt").write_text("mine")
    (tmp_path / "full/site.json").write_text("{}")  # somebody else's
    given: dict[str, Any] = {"runs": runs, "output": tmp_path / "site", "refresh": "none"}
    given |= {k: tmp_path / v if isinstance(v, str) else v for k, v in changes.items()}
    with pytest.raises(BadInput, match=words) as caught:
        main(Config(**given))
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == {"full/precious.txt": b"mine", "full/site.json": b"{}"}


def test_a_failure_leaves_the_old_site(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(Config(runs, tmp_path / "site", refresh="none"))
    before = snapshot(tmp_path)
    assert MARK in {Path(name).name for name in before}
    monkeypatch.setattr("eval.site.__main__.HERE", tmp_path / "no_templates")
    with pytest.raises(Exception, match=r"index\.html\.j2"):
        main(Config(runs, tmp_path / "site", refresh="none"))
    assert snapshot(tmp_path) == before
