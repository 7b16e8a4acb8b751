"""What documents say can be done: commands start, options, files and addresses are there."""

import ast
import importlib
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import builders
import documents
import pytest
from commands import check, made, options_of, programs, words_of
from documents import DOCUMENTS, ROOT, name_of
from installed import Refused

from eval import ablations
from videopolicy.config import load

STAGES = ("video", "joint", "light", "vae", "cache")
GROUPS = {"backbone", "head", "data", "train", "augment", "preview", "distill", "noise"}
NOT_OURS = {"num_processes", "num_machines"}  # accelerate's
DATED = {"docs/LOG.md", "docs/RESULTS.md"}  # name what there was on a day, at a commit
MADE = {"config.yaml", "my.yaml", "table.md", "configs/ablations/ROW.yaml"}  # by programs, or by the reader

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)


def faults(pieces: list[documents.Words], look: Callable[[documents.Words], object]) -> list[str]:
    """A line for each that is refused."""
    found = []
    for piece in pieces:
        try:
            look(piece)
        except Refused as error:
            found.append(f"{piece.where}: {piece.text}: {error}")
    return found


@each_document
def test_every_command_would_start(path: Path) -> None:
    """Its program is there, its options parse, its files exist; make's targets are looked at command by command."""
    assert not faults(documents.commands(path), lambda c: check(c.text, whole=not c.in_prose))
    assert not documents.unlabelled_commands(path), "a block of commands is marked bash, or it is not looked at"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python -m eval.rolout --output x", "no module eval.rolout"),
        ("python -m eval.rollout --n_episode 3", "unknown option --n_episode; did you mean 'n_episodes'"),
        ("python -m eval.rollout --n_episodes many", "Couldn't parse 'many'"),
        ("python -m eval.collect --config_path configs/demo/colect.yaml", "no configuration file"),
        ("python -m eval.types", "no module eval.types"),
        ("python -m eval.scene x", "eval.scene is no program"),
        ("python -m eval.report", "takes one folder"),
        ("python -m json.tool", "no rule of tests/commands.py covers python -m json.tool"),
        ("accelerate launch train_stages/jiont.py", "there is no train_stages/jiont.py"),
        ("accelerate launch train_stages/joint.py --heads.kind para", "unknown option --heads.kind"),
        (
            "accelerate launch --config_file configs/accelerate/dp.yaml train_stages/joint.py",
            "configs/accelerate/dp.yaml",
        ),
        ("python -m robot.run --robot my.yaml", "required: --policy"),
        ("python -m robot.run --policy runs/x --robot configs/no.yaml", "there is no configs/no.yaml"),
        ("python -m robot.calibrate joint --robot my.yaml", "invalid choice: 'joint'"),
        ("python -m videopolicy.data.doctor data/x --mend", "unrecognized arguments: --mend"),
        ("make demos", "No rule to make target 'demos'"),
        ("cd data && make demos", "no rule of tests/commands.py covers 'cd'"),
        ("make ood-sideways", "No rule to make target"),
        ("pip install -e '.[cuda]'", "no extra cuda"),
        ("pip install -e '.[zero]' -c constraint.txt", "there is no constraint.txt"),
        ("conda activate para", "activate videopolicy"),
        ("hg clone x", "no rule of tests/commands.py covers 'hg'"),
    ],
)
def test_what_would_not_start_is_named(text: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        check(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "recipe",
    [
        "$(RUN) python -m eval.step x y -- python -m eval.report {}",
        "for n in 1 2; do $(RUN) python -m eval.report {}; done",
    ],
)
def test_what_make_would_do_is_looked_at(recipe: str, tmp_path: Path) -> None:
    """The command behind a variable, behind eval.step and in a loop."""
    path = tmp_path / "Makefile"
    for folders, refused in (("runs/x", False), ("runs/x runs/y", True)):
        path.write_text(f"RUN := A=1\nreport:\n\t@{recipe.format(folders)}\n")
        with pytest.raises(Refused, match="takes one folder") if refused else nullcontext():
            made.__wrapped__(("-f", str(path), "report"))


def trainings() -> list[tuple[str, ...]]:
    """Every training that a document names: module and arguments."""
    found = []
    for command in (c for path in DOCUMENTS for c in documents.commands(path)):
        words = words_of(command.text)
        place = next((i for i, word in enumerate(words) if word.startswith("train_stages")), None)
        if place is not None:
            module = words[place].removesuffix(".py").replace("/", ".")
            if module.removeprefix("train_stages.") in STAGES and len(words) > place + 1:
                found.append((module, *words[place + 1 :]))
    return sorted(set(found))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough short episodes for every configuration's held-out ones."""
    return builders.write_dataset(tmp_path_factory.mktemp("docs") / "data", lengths=(14,) * 12)


@pytest.mark.parametrize("command", trainings(), ids=" ".join)
def test_trainings_begin(
    command: tuple[str, ...], recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--dry_run`, on other data, with the small video model for the published one, and without the run before it."""
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(command[0])
    given = load(module.Config, command[1:])
    other = {"dry_run": "true", "data.root": recorded, "run": tmp_path / "run", "data.select": "all"}
    other |= {"data.n_train_episodes": "null", "data.n_val_episodes": min(given.data.n_val_episodes, 8)}
    if hasattr(given, "init_from"):
        other["init_from"] = "null"
    if hasattr(given, "mix"):
        other["mix"] = "{}"
    if hasattr(given, "backbone") and hasattr(given.backbone, "pretrained"):
        other["backbone.pretrained"] = "weights/svd-tiny"
        if given.backbone.pretrained is None or "svd-tiny" not in str(given.backbone.pretrained):
            other |= {"backbone.image_size": "[96, 96]", "backbone.variant": "null"}
    args, skip = [], False
    for word in command[1:]:
        skip = skip or (word.startswith("--") and word[2:].split("=")[0] in other)
        if not skip:
            args.append(word)
        skip = skip and word.startswith("--") and "=" not in word
    args += [word for key, value in other.items() for word in (f"--{key}", str(value))]
    module.main(load(module.Config, args))
    assert not (tmp_path / "run").exists()


def test_ablations_say_what_they_would_run(capsys: pytest.CaptureFixture) -> None:
    """Which must start, too."""
    ablations.main(load(ablations.Config, ["--scale", "cpu", "--dry_run", "true"]))
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    commands = [line for line in said if line.startswith(("accelerate", "python", "torchrun"))]
    assert commands
    for command in commands:
        check(command)


@each_document
def test_every_option_and_key_exists(path: Path) -> None:
    """Options by themselves are some program's, those behind a program's name its own; keys of groups are a stage's."""
    known = {option for name in programs() for option in options_of(name)} | NOT_OURS
    keys = {key for stage in STAGES[:4] for key in options_of(f"train_stages.{stage}")}

    def look(span: documents.Words) -> None:
        if re.fullmatch(rf"({'|'.join(GROUPS)})(\.[a-z0-9_]+)+", span.text) and span.text not in keys:
            raise Refused("no stage has this key")
        program = re.match(r"((?:eval|robot|bench|train_stages)[./][\w./]+) --", span.text)
        allowed = options_of(program[1].removesuffix(".py").replace("/", ".")) if program else known
        if program or span.text.startswith("--"):
            for word in words_of(span.text):
                if word.startswith("--") and word[2:].split("=")[0] not in allowed:
                    raise Refused(f"no option {word}")

    assert not faults(documents.spans(path), look)


@each_document
def test_every_address_resolves(path: Path) -> None:
    """Links to files and to headings; addresses elsewhere are not asked for."""

    def look(link: documents.Words) -> None:
        file, _, heading = link.text.partition("#")
        if file.startswith(("http://", "https://")):
            return
        target = (path.parent / file).resolve() if file else path
        if not target.is_relative_to(ROOT) or not target.exists():
            raise Refused("there is no such file")
        if heading and heading not in documents.anchors(target):
            raise Refused(f"{name_of(target)} has no such heading")

    assert not faults(documents.links(path), look)


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if name_of(p) not in DATED], ids=name_of)
def test_every_file_that_is_named_exists(path: Path) -> None:
    """In sentences, tables and trees, by its path or the end of it."""
    folders = [p for p in ROOT.iterdir() if p.is_dir() and p.name[0] != "." and p.name not in ("runs", "data")]
    known = [name_of(p) for p in (*ROOT.iterdir(), *(p for folder in folders for p in folder.rglob("*")))]
    ends = {"/".join(name.split("/")[i:]) for name in known for i in range(name.count("/") + 1)}

    def look(file: documents.Words) -> None:
        if file.text not in ends and file.text not in MADE:
            raise Refused("there is no such file")

    assert not faults(documents.files(path), look)


def test_a_file_tree_is_looked_at(tmp_path: Path) -> None:
    """What the tests above are given: names in trees, lines of shells, addresses, not what stands in sentences."""
    text = "Say [a](b.md#c), ![d](e.jpg).\n```\nvideopolicy/data/ the data\n  camera.py rays.py   the lens\n```\n"
    text += "```bash\n# nothing\nmake a \\\n  b   # why\n\npython -m c\n```\nAnd `make\nd` or `maker`.\n"
    path = tmp_path / "x.md"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "ROOT", tmp_path)
        assert [w.text for w in documents.files(path)] == ["camera.py", "rays.py", "videopolicy/data"]
        assert [(w.line, w.text) for w in documents.commands(path)] == [
            (8, "make a b   # why"),
            (11, "python -m c"),
            (13, "make d"),
        ]
        assert [w.text for w in documents.links(path)] == ["b.md#c", "e.jpg"]


@each_document
def test_blocks_of_python_name_what_there_is(path: Path) -> None:
    """They compile, and import what can be imported; those of the tutorials are run by `test_tutorials.py`."""
    for language, block in documents.blocks(path):
        if language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "videopolicy":
                    module = importlib.import_module(node.module)
                    for name in node.names:
                        assert hasattr(module, name.name), f"{block.where}: {node.module} has no {name.name}"
                elif isinstance(node, ast.Import):
                    for name in node.names:
                        importlib.import_module(name.name)


def test_what_a_document_gets_wrong_is_named_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that no rule covers, a module that is gone, a misspelt option, in a block and in a sentence."""
    path = tmp_path / "x.md"
    path.write_text(
        "```bash\nfrobnicate x\nmake demo\n```\nSay `python -m eval.gone x` or\n`python -m eval.report --n 3`.\n"
    )
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    found = faults(documents.commands(path), lambda c: check(c.text, whole=not c.in_prose))
    assert [fault.split(":")[1] for fault in found] == ["2", "5", "6"]
    assert "no rule of tests/commands.py covers 'frobnicate'" in found[0]
    assert "there is no module eval.gone" in found[1]
