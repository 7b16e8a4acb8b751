"""Recordings that are cut short, and datasets whose files change afterwards."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import builders
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import ROW, TABLE, VIDEO

from faults.fault import Outcome, killed, limit_files, run, small_disk, start
from faults.ticks import Ticks, moments_of
from videopolicy.data import checksums, doctor
from videopolicy.data.findings import examine
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.data.video import read_video
from videopolicy.errors import BadInput

N_FRAMES = 5


def kill_recording(folder: Path, n: int) -> Outcome:
    """kill -9 at random moments of a recording; the next one goes on, and nothing is twice, missing or different."""
    n_episodes, rng, lost, survived = 3 * n, random.Random(0), 0, 0
    episodes = [builders.episode(i, N_FRAMES) for i in range(n_episodes)]
    plain, path = builders.write_dataset(folder / "plain", (N_FRAMES,) * n_episodes), folder / "run"

    def records(pipe: int) -> None:
        writer = builders.open_writer(path)
        writer.write_markers(*_markers())
        for episode in episodes[writer.n_episodes :]:
            writer.append(episode)
            os.write(pipe, b".")
        writer.finish()

    promised = 0
    for _ in range(n):
        read, write = os.pipe()
        pid = start(lambda write=write: records(write), folder / "log")
        os.close(write)
        if promised < n_episodes:
            promised += len(os.read(read, 1))
        time.sleep(rng.uniform(0, 0.15))
        survived += killed(pid) in (-signal.SIGKILL, 0)
        promised += len(os.read(read, 2**16))
        os.close(read)
        lost += max(0, promised - Dataset(path).info["total_episodes"])
        promised = Dataset(path).info["total_episodes"]
    null = os.open(os.devnull, os.O_WRONLY)
    assert run(lambda: records(null), folder / "log") == 0, (folder / "log").read_text()
    found, expected = (_contents(p) for p in (path, plain))
    return Outcome(n, survived if found == expected and examine(path).sound else 0, lost, f"{n_episodes} episodes")


def kill_everywhere(folder: Path, n: int) -> Outcome:
    """kill -9 before every single operation on files of a recording that goes on, before markers a little different.

    What was recorded is whole at every moment, to the doctor and to training, and the next one goes on.
    """
    base, path, log = folder / "base", folder / "run", folder / "log"
    builders.write_dataset(base, (N_FRAMES,))
    markers, (shown, plain) = builders.MARKERS, _markers()[1:]

    def records() -> None:
        writer = builders.open_writer(path)
        writer.write_markers(markers, np.maximum(shown, 1), np.maximum(plain, 1))
        for i in range(writer.n_episodes, 2):
            writer.append(builders.episode(i, N_FRAMES))
        writer.finish()

    shutil.copytree(base, path)
    every = moments_of(path, log, records)
    moments = range(1, len(every) + 1)
    survived = lost = 0
    for moment in moments if n >= len(every) else sorted(random.Random(0).sample(moments, n)):
        shutil.rmtree(path)
        shutil.copytree(base, path)

        def dies(moment: int = moment) -> None:
            Ticks(path, moment, lambda _room: os.kill(os.getpid(), signal.SIGKILL))
            records()

        status, found = run(dies, log), examine(path)
        lost += found.n_sound < 1
        fine = status == -signal.SIGKILL and found.sound and len(Dataset(path)) >= 1
        survived += fine and run(records, log) == 0 and examine(path).sound and len(Dataset(path)) == 2
    return Outcome(min(n, len(every)), survived, lost, f"of {len(every)} moments")


def full_disk(folder: Path, n: int) -> Outcome:
    """A disk that is full at another point each time; what was recorded is whole, and with room it goes on."""
    episodes = [builders.episode(i, N_FRAMES) for i in range(8)]
    whole = builders.write_dataset(folder / "plain", (N_FRAMES,) * len(episodes))
    plain, largest = _contents(whole), max(f.stat().st_size for f in whole.rglob("*") if f.is_file())
    survived, mounted = 0, []
    for i in range(n):
        log, mount = folder / f"log{i}", folder / f"disk{i}"
        mount.mkdir()

        def records(i: int = i, mount: Path = mount) -> None:
            root, ballast = mount / "data", mount / "ballast"
            print(is_disk := small_disk(mount, 2**21))
            if is_disk:
                ballast.write_bytes(bytes(2**21 - 2**16 - 2**14 * i))
            else:
                limit_files(int(largest * (i + 0.5) / n))
            with pytest.raises(BadInput, match=r"cannot write .*(No space left|File too large)") as caught:
                _record(root, episodes)
            print(caught.value)
            done = examine(root) if (root / "meta/info.json").is_file() else None
            assert done is None or done.n_episodes == 0 or not (done.of_episodes or done.of_all)
            ballast.unlink(missing_ok=True)
            limit_files(-1)
            _record(root, episodes)
            assert _contents(root) == plain

        survived += run(records, log) == 0
        mounted.append(log.read_text().startswith("True"))
    return Outcome(n, survived, n - survived, f"{sum(mounted)} of them a tmpfs")


def _record(root: Path, episodes: list[Episode]) -> None:
    writer = builders.open_writer(root)
    writer.write_markers(*_markers())
    for episode in episodes[writer.n_episodes :]:
        writer.append(episode)
    writer.finish()


def _markers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    plain = builders.background()
    return builders.MARKERS, builders.discs(plain, builders.agentview(64).project(builders.MARKERS)), plain


def _contents(root: Path) -> dict[str, bytes]:
    """All files but the checksums, which repeat an episode that was begun twice."""
    files = {k: v for k, v in builders.snapshot(root).items() if k != checksums.FILE}
    return files | {"sums": repr(checksums.read(root)).encode()}


def damaged_files(folder: Path, n: int) -> Outcome:
    """Tables and videos with one bit flipped at `n` random places, cut off at as many, without end, empty, missing.

    Reading names the file; the doctor names the episode, and its repair keeps those before it.
    """
    whole, rng = builders.write_dataset(folder / "whole", (6, 6, 6)), random.Random(0)
    injected = survived = lost = 0
    for name in (VIDEO.format(1), TABLE.format(1), ROW.format(1)):
        contents = (whole / name).read_bytes()
        faults: list[bytes | None] = [b"", None, contents[:-8]]
        for _ in range(n):
            changed = bytearray(contents)
            changed[rng.randrange(len(contents))] ^= 1 << rng.randrange(8)
            faults += [bytes(changed), contents[: rng.randrange(len(contents))]]
        for i, fault in enumerate(faults):
            root = folder / "damaged"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(whole, root)
            (root / name).unlink()
            if fault is not None:
                (root / name).write_bytes(fault)
            injected += 1
            named = _refuses(lambda root=root: Dataset(root).frames(1), name)
            found = examine(root)
            survived += named and list(found.of_episodes) == [1]
            if i < 4:
                lost += _repaired(root) != 1
    return Outcome(injected, survived, lost)


def _refuses(work: Callable[[], object], name: str) -> bool:
    try:
        work()
    except BadInput as error:
        return name in str(error) or "row 1 is of episode 2: is a table before it missing" in str(error)
    return False


def _repaired(root: Path) -> int:
    """Episodes that a repair keeps; the whole must still be there."""
    doctor.main(root, mend=True)
    kept = root.with_name(f"{root.name}.damaged_1")
    assert kept.is_dir()
    shutil.rmtree(kept)
    return Dataset(root).info["total_episodes"]


def unusual_files(folder: Path, n: int) -> Outcome:
    """Videos and tables that are sound, but not what a dataset's are; AV1, which decord does not know, is read."""
    frames = builders.episode(1, 6).frames
    changes: list[tuple[Callable[[Path], None], str | None]] = [
        (lambda root: _encode(root / VIDEO.format(1), frames, "libsvtav1"), None),
        (lambda root: _encode(root / VIDEO.format(1), frames[:4], "libx264"), "holds 4 frames"),
        (lambda root: _encode(root / VIDEO.format(1), np.repeat(frames, 2, 0), "libx264"), "holds 12 frames"),
        (lambda root: _edit(root, lambda t: t.slice(0, 5)), "holds 5 frames"),
        (lambda root: _edit(root, lambda t: t.drop_columns(["action"])), "action"),
        (lambda root: _edit(root, _not_finite), "action of episode 1, frame 2, is not finite"),
    ]
    survived, chosen = 0, changes[:n]
    for i, (change, words) in enumerate(chosen):
        root = builders.without_sums(builders.write_dataset(folder / f"data{i}", (6, 6, 6)))
        change(root)
        try:
            data = Dataset(root)
            survived += len(data.frames(1)) == 6 and words is None and examine(root).sound
        except BadInput as error:
            survived += words is not None and words in str(error) and list(examine(root).of_episodes) == [1]
    return Outcome(len(chosen), survived, 0)


def _encode(path: Path, frames: np.ndarray, codec: str) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(builders.FPS))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert len(read_video(path, len(frames))) == len(frames)


def _edit(root: Path, change: Callable) -> None:
    path = root / TABLE.format(1)
    pq.write_table(change(pq.read_table(path)), path)


def _not_finite(table: pa.Table) -> pa.Table:
    values = table["action"].to_pylist()
    values[2][0] = float("nan")
    return table.set_column(table.column_names.index("action"), "action", pa.array(values, table["action"].type))
