"""Claims and what was measured: verdicts by rule, tables that are up to date, quoted figures that were measured."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eval import fewshot_report
from eval.claims import add
from eval.claims.__main__ import TARGET, main
from eval.claims.manuscripts import read_manuscripts
from eval.claims.markdown import BEGIN, END, without_section
from eval.claims.quotes import FILE
from eval.claims.results import read_results
from eval.claims.rows import read_tables
from eval.claims.verdict import Estimate, against_value, combined, difference, keeps, level, ordered, rate, ratio
from robot import summary
from videopolicy.data.files import append_jsonl, make_folder, read_jsonl
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
DASH = "\N{EN DASH}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the check reads."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "configs/svd", tmp_path / "configs/svd")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def faults(root: Path, capsys: pytest.CaptureFixture, *options: str) -> list[str]:
    """The lines of a check that fails."""
    with pytest.raises(SystemExit) as caught:
        main(["--root", str(root), *(options or ["--check"])])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_this_tree_is_in_order(capsys: pytest.CaptureFixture) -> None:
    main(["--check", "--root", str(ROOT)])
    assert re.search(r"\d{3} numbers of the manuscripts, \d+ results", capsys.readouterr().out)


def test_writing_changes_the_section_alone_and_once(copy: Path) -> None:
    path = copy / TARGET
    whole = path.read_text()
    replaced(path, "### A real arm", "### What somebody typed")
    main(["--root", str(copy)])
    assert path.read_text() == whole
    written = path.stat().st_mtime_ns
    main(["--root", str(copy)])
    assert path.stat().st_mtime_ns == written
    assert "\n## Tests\n" in without_section(whole)
    assert "### A real arm" not in without_section(whole)


def test_a_table_that_is_not_up_to_date_is_named(copy: Path, capsys: pytest.CaptureFixture) -> None:
    """A later line of the same result counts, and changes the verdict."""
    path = copy / "docs/results/ood.jsonl"
    first = read_jsonl(path)[0]
    append_jsonl(path, first | {"placed": 54, "commit": "0123456"})
    said = faults(copy, capsys)
    assert said == [f"{TARGET}: the claims table is not up to date; python -m eval.claims makes it anew"]
    main(["--root", str(copy)])
    text = (copy / TARGET).read_text()
    row = next(line for line in text.splitlines() if line.startswith("| left \N{RIGHTWARDS ARROW} right, PARA"))
    assert f"| 54/100: 54.0 (44.3{DASH}63.4) | agrees |" in row


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_marks_are_needed(copy: Path, mark: str) -> None:
    replaced(copy / TARGET, mark, "")
    with pytest.raises(BadInput, match=r"docs/RESULTS\.md needs the lines '<!-- claims.* once each"):
        main(["--root", str(copy)])


def test_every_number_of_the_manuscripts_needs_a_row(copy: Path, capsys: pytest.CaptureFixture) -> None:
    path = copy / "docs/claims/tables/1_axes.yaml"
    lines = [line for line in path.read_text().splitlines(True) if "claim: hemisphere.para" not in line]
    path.write_text("".join(lines))
    replaced(copy / "docs/claims/manuscripts/pitch.yaml", "results:\n", "results:\n    real.stacking.para: 71\n")
    before = (copy / TARGET).read_text()
    said = faults(copy, capsys)
    assert "P section 4.2: hemisphere.para 40 has no row in docs/claims/tables" in said
    assert "I results: real.stacking.para 71 has no row in docs/claims/tables" in said
    assert faults(copy, capsys, "--root", str(copy)) == said
    assert (copy / TARGET).read_text() == before


AXES, STEPS, ARM = (f"docs/claims/tables/{n}.yaml" for n in ("1_axes", "4_steps", "5_arm"))
SCRATCH = (  # the only way to a row's number, on weights that are not here
    "accelerate launch train_stages/joint.py --config_path configs/svd/joint_para.yaml"
    " --init_from null --train.n_steps 10000"
)
VIEWS, PAPER = "docs/claims/tables/2_viewpoint.yaml", "docs/claims/manuscripts/paper.yaml"
OOD = "docs/results/ood.jsonl"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (AXES, "rule: above", "rule: abov", "PARA above regression): rule is 'abov'; allowed: 'rate', 'each'"),
        (AXES, "ours: [ood/left_right/para]", "hours: []", "unknown key 'hours'; did you mean 'ours'?"),
        (AXES, "n: 100", "n: many", "n is 'many'; allowed: a whole number"),
        (AXES, "claim: left_right.para, ", "", "claim is missing; allowed without one: rules above, level"),
        (AXES, "claim: left_right.para", "claim: left_rigth.para", "no manuscript has left_rigth.para"),
        (AXES, "{value: 54,", "{value: 53,", "'takes' has 53 for left_right.para; allowed: 50, 54"),
        (AXES, "left_right.para: {value: 54", "near_far.para: {value: 4", "the manuscripts have 50, 54 for left_right"),
        (AXES, "title: ", "title: A\ntitle: ", "1_axes.yaml: 'title' stands twice"),
        (AXES, "rows:\n", "rows: [\n", "cannot read"),
        (STEPS, f", command: {SCRATCH}", "", "neither measured nor a 'command' that measures it, nor a 'barrier'"),
        (ARM, "in_distribution/para], barrier: arm", "in_distribution/para]", "a stand-in's, which decides orderings"),
        (ARM, "barrier: cloth", "barrier: clothes", "barrier is 'clothes'; allowed: 'arm', 'cloth'"),
        (ARM, "against: [twin/in_distribution/regression]", "unit: pp", "rule 'difference' needs 'against'"),
        (STEPS, ":train.n_steps", ":train.steps", "cannot read"),
        (VIEWS, "viewpoint_{theta}.", "viewpoint_{angle}.", "has no key 'angle'"),
        (PAPER, "left_right.para: 54", "left_right.para: ~54", "abstract: left_right.para is '~54'; allowed: a number"),
        (PAPER, "letter: P\n", "", "paper.yaml: 'letter' is missing"),
        (OOD, '"placed": 92', '"placed": 101', "ood.jsonl:1: placed is 101; allowed: 0 to n, 100"),
        (OOD, '"grasped": 3', '"grasped": 9', "ood.jsonl:1: grasped is 9; allowed: 0 to n less"),
        (OOD, '"7770889"', '"7770889-dirty"', "ood.jsonl:1: commit is '7770889-dirty'"),
        (OOD, '"n": 100,', "", "ood.jsonl:1: 'n' is missing"),
        (OOD, '{"id"', '"id"', "ood.jsonl:1: not JSON"),
        (FILE, "README.md:\n", "READ.md:\n", "'READ.md' is no document that is checked"),
        (FILE, "setting: where a", "settings: where a", "README.md: unknown key 'settings'; did you mean 'setting'?"),
        (FILE, ", setting: where a pixel's centre is", "", "v down' has neither of 'measured' and 'setting'"),
        (FILE, "24 GiB: 525 s.", "24 GiB: 526 s.", "docs/RESULTS.md does not say '24 GiB: 526 s.'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    copy: Path, capsys: pytest.CaptureFixture, file: str, old: str, new: str, words: str
) -> None:
    replaced(copy / file, old, new)
    assert [line for line in faults(copy, capsys) if words in line]


def test_a_changed_digit_in_the_readme_is_named(copy: Path, capsys: pytest.CaptureFixture) -> None:
    replaced(copy / "README.md", f"78.0 (68.9{DASH}85.0)", f"78.0 (68.9{DASH}85.1)")
    (said,) = faults(copy, capsys)
    assert re.match(rf"README\.md:\d+: '78\.0 \(68\.9{DASH}85\.1\)' stands neither in docs/RESULTS\.md nor", said)


def test_intervals_are_those_of_their_sources() -> None:
    """Newcombe (1998), table II, example (a), method 10; a weighted sum is exact at its ends."""
    apart = difference(rate(56, 70), rate(48, 80))
    assert (apart.value, apart.low, apart.high) == pytest.approx((20.0, 5.24, 33.39), abs=0.1)
    assert combined([(1, rate(0, 50)), (0.5, rate(0, 50))]).low == 0
    assert combined([(1, rate(7, 50))]) == Estimate(14.0, *(rate(7, 50).low, rate(7, 50).high))
    assert ratio(rate(66, 100), rate(10, 100)).value == pytest.approx(6.6)
    assert ratio(rate(5, 10), rate(0, 10)).high == float("inf")


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (against_value(rate(68, 100), 60, 60), "agrees"),  # 58.3 to 76.3
        (against_value(rate(68, 100), 58, 58), "agrees"),  # rounded from 58.4
        (against_value(rate(68, 100), 57, 57), "disagrees, higher"),
        (against_value(rate(68, 100), 40, 57), "disagrees, higher"),
        (against_value(rate(68, 100), 40, 60), "agrees"),
        (against_value(rate(40, 100), 90, 92), "disagrees, lower"),
        (against_value(rate(1, 24), 0, 0), "disagrees, higher"),
        (against_value(rate(1, 24), 0, 0, 24), "agrees"),  # 0 of 24 is a rate with an interval too
        (ordered(rate(92, 100), rate(12, 100)), "agrees"),
        (ordered(rate(12, 100), rate(92, 100)), "disagrees, the other way round"),
        (ordered(rate(6, 10), rate(4, 10)), "not yet measured: the intervals overlap"),
        (level(rate(99, 100), rate(96, 100)), "agrees"),
        (level(rate(99, 100), rate(50, 100)), "disagrees, higher"),
        (keeps([rate(24, 24), rate(15, 24)], 62), "agrees"),
        (keeps([rate(24, 24), rate(2, 24)], 62), "disagrees, 1 of 2 lower"),
    ],
)
def test_verdicts_follow_from_counts(verdict: object, said: str) -> None:
    assert str(verdict) == said


def test_reports_print_the_manuscripts_numbers() -> None:
    """Those that two reports set beside their own are the ones of the lists."""
    _, cells = read_manuscripts(ROOT, [])
    values: dict[str, set[float]] = {}
    for cell in cells:
        values.setdefault(cell.claim, set()).add(cell.low)
    names = {"in_distribution": "pick_place", "new_viewpoint": "viewpoint", "new_viewpoint_5_demos": "viewpoint_5"}
    for condition, (para, regression) in summary.PAPER.items():
        name = names.get(condition, "environment")
        assert (values[f"real.{name}.para"], values[f"real.{name}.regression"]) == ({para}, {regression})
    for (policy, pretrain), column in fewshot_report.PAPER.items():
        of = "placed" if pretrain == "2d" else "success"
        for demos, value in column.items():
            assert value in values[f"fewshot.{demos}.{policy}_{pretrain}.{of}"]


def test_commands_are_of_this_tree() -> None:
    """Every command that measured something or will: make's targets, modules, scripts and configurations exist."""
    tables = read_tables(ROOT, [])
    commands = {r.command for r in read_results(ROOT, [])} | {t.table.command for t in tables}
    commands |= {row.command for t in tables for row in t.rows}
    database = subprocess.run(["make", "-pRrq", ":"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for command in filter(None, commands):
        first, *rest = command.split()
        if first == "make":
            assert re.search(rf"^{re.escape(rest[0])}:", database, re.M), command
        elif rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]), command
        for word in rest:
            assert not word.endswith((".py", ".yaml")) or (ROOT / word).is_file(), command


def test_reports_are_added_to_results(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Few-shot episodes of two seeds and trials on the twin, through their own summaries, into the table."""
    runs = tmp_path / "runs"
    make_folder(runs / "rollout/10")
    about = {"split": "few_shot", "commit": "0123456", "dataset": "d", "code": "x", "group": 0}
    for seed, placed in enumerate((30, 36)):
        for i in range(50):
            name = f"para_3d_10_{seed}"
            outcome = {"policy": name, "episode": i, "seed": i, "outcome": "place" if i < placed else "grasp"}
            append_jsonl(runs / "rollout/10/episodes.jsonl", about | outcome | {"digest": name})
    fewshot_report.report(runs)
    given = [
        "--suite",
        "fewshot",
        "--command",
        "make fewshot",
        "--scale",
        "{demos} demonstrations",
        "--root",
        str(copy),
    ]
    add.main([str(runs / "summary.json"), *given])
    add.main([str(runs / "summary.json"), *given])
    assert "0 of 1 results added" in capsys.readouterr().out
    *_, line = read_jsonl(copy / "docs/results/fewshot.jsonl")
    assert (line["id"], line["n"], line["placed"], line["grasped"]) == ("fewshot/10/para_3d", 100, 66, 34)
    assert (line["commit"], line["scale"]) == ("0123456", "10 demonstrations")
    main(["--root", str(copy)])
    assert f"| 10, 3-D | 66 | 66/100: 66.0 (56.3{DASH}74.5) | agrees |" in (copy / TARGET).read_text()

    joint = {"steps": 210, "minutes": 6.2, "commits": ["0123456"]}
    row = {"row": "frozen", "split": "seen", "n": 40, "place": 67.5, "grasp": 22.5, "finished": True}
    row |= {"stages": {"video": joint | {"steps": 280}, "joint": joint}, "rolled_out_at": ["89abcde"]}
    table = {"rows": [row, row | {"row": "global", "finished": False}], "machine": "x86_64", "commit": "0123456"}
    (runs / "table.json").write_text(json.dumps(table))
    given[1:6] = ["ablations", "--command", "make ablations", "--scale", "{steps} steps"]
    add.main([str(runs / "table.json"), *given])
    (line,) = [r for r in read_jsonl(copy / "docs/results/ablations.jsonl") if r["scale"] == "280 + 210 steps"]
    assert (line["id"], line["placed"], line["grasped"], line["minutes"]) == ("ablations/seen/frozen", 27, 9, 12.4)
    assert line["commit"] == "0123456 (training), 89abcde (episodes)"
    given[5] = "{demos} demonstrations"

    for i in range(40):
        trial = {"episode": i, "place": i < 31, "grasp": True, "mode": "run"}
        append_jsonl(make(runs / "trials/new_environment") / "para.jsonl", trial)
    found = summary.summary(runs) | {"commit": "0123456"}
    (runs / "summary.json").write_text(json.dumps(found))
    given[1:4] = ["twin", "--command", "make demo-robot"]
    with pytest.raises(BadInput, match=r"'\{demos\} demonstrations' names 'demos'; allowed: condition"):
        add.main([str(runs / "summary.json"), *given])
    add.main([str(runs / "summary.json"), *given, "--scale", "20 demonstrations", "--stand_in", "the arm's twin"])
    last = read_jsonl(copy / "docs/results/twin.jsonl")[-1]
    assert (last["id"], last["placed"], last["grasped"]) == ("twin/new_environment/para", 31, 9)


def make(folder: Path) -> Path:
    make_folder(folder)
    return folder
