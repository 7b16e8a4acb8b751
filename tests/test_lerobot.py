"""The dataset on disk: plain tables and videos that others read, whole after any crash."""

import json
from pathlib import Path

import av
import builders
import numpy as np
import pyarrow.parquet as pq
from builders import FPS, KEY, LENGTHS, ROW, TABLE, VIDEO, agentview, snapshot

from videopolicy.data.lerobot import Dataset


def test_tables_are_plain_parquet(written_dataset: Path) -> None:
    """Columns are those that info.json declares, of its types; indices run through the whole dataset."""
    info = json.loads((written_dataset / "meta/info.json").read_text())
    tables = [pq.read_table(written_dataset / TABLE.format(i)) for i in range(3)]
    declared = {k: f for k, f in info["features"].items() if f["dtype"] != "video"}
    for i, (table, n) in enumerate(zip(tables, LENGTHS, strict=True)):
        assert set(table.column_names) == set(declared)
        for column, feature in declared.items():
            kind = table.schema.field(column).type
            entry = str(getattr(kind, "value_type", kind)).replace("float", "float32")
            assert [entry, [getattr(kind, "list_size", 1)]] == [feature["dtype"], feature["shape"]]
        assert table["frame_index"].to_pylist() == list(range(n))
        assert set(table["episode_index"].to_pylist()) == {i}
        np.testing.assert_allclose(table["timestamp"].to_numpy(), np.arange(n) / FPS)
        np.testing.assert_allclose(table["observation.state"].to_pylist(), builders.episode(i, n).state, atol=1e-6)
    index = [x for table in tables for x in table["index"].to_pylist()]
    assert index == list(range(info["total_frames"])) == list(range(sum(LENGTHS)))


def test_episode_rows_point_at_their_frames(written_dataset: Path) -> None:
    rows = [pq.read_table(written_dataset / ROW.format(i)).to_pylist()[0] for i in range(3)]
    ends = np.cumsum(LENGTHS).tolist()
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [*zip([0, *ends], ends, strict=False)]
    for i, row in enumerate(rows):
        assert (row["episode_index"], row["length"]) == (i, LENGTHS[i])
        assert row[f"videos/{KEY}/to_timestamp"] == LENGTHS[i] / FPS
        assert (row["data/file_index"], row[f"videos/{KEY}/file_index"]) == (i, i)


def test_videos_hold_exactly_the_frames(written_dataset: Path) -> None:
    """PyAV, which wrote them, and our reader agree; pictures are close to what was recorded."""
    data = Dataset(written_dataset)
    for i, n in enumerate(LENGTHS):
        with av.open(str(written_dataset / VIDEO.format(i))) as container:
            stream = container.streams.video[0]
            assert (stream.average_rate, stream.codec_context.name) == (FPS, "h264")
            theirs = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])
        assert theirs.shape == data.frames(i).shape == (n, 64, 64, 3)
        for decoded in (theirs, data.frames(i)):
            error = np.abs(decoded.astype(float) - builders.episode(i, n).frames)
            assert error.mean() < 3
            assert error[..., 1].mean(axis=(1, 2)).max() < 4  # no frame is another's


def test_statistics_are_those_of_all_frames(written_dataset: Path) -> None:
    stats = json.loads((written_dataset / "meta/stats.json").read_text())["observation.state"]
    state = np.concatenate([builders.episode(i, n).state for i, n in enumerate(LENGTHS)])
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stats[name], getattr(state, name)(0), atol=1e-6)
    assert stats["count"] == [len(state)]


def test_reading_returns_what_was_written(written_dataset: Path) -> None:
    data = Dataset(written_dataset)
    assert len(data) == 3
    assert (data.camera.K == agentview(64).K).all()
    assert [e["number"] for e in data.extras()] == [0, 1, 2]
    np.testing.assert_allclose(data.action(1), builders.episode(1, 4).action, atol=1e-6)


def test_writing_continues_where_it_stopped(small_dataset: Path) -> None:
    """A second writer appends; what was there keeps every byte."""
    before = snapshot(small_dataset)
    writer = builders.open_writer(small_dataset)
    assert writer.n_episodes == 3
    writer.append(builders.episode(3, 7))
    data, after = Dataset(small_dataset), snapshot(small_dataset)
    assert [data.length(i) for i in range(len(data))] == [*LENGTHS, 7]
    assert pq.read_table(small_dataset / TABLE.format(3))["index"].to_pylist() == list(range(15, 22))
    same = {k for k in before if before[k] == after[k]}
    assert set(before) - same == {"meta/info.json", "meta/para_episodes.jsonl", "meta/para_checksums.jsonl"}


def test_a_crash_while_writing_costs_only_that_episode(small_dataset: Path) -> None:
    """Temporary files and files beyond info.json's count do not exist, and the next episode takes their place."""
    info = (small_dataset / "meta/info.json").read_bytes()
    builders.open_writer(small_dataset).append(builders.episode(9, 9))
    (small_dataset / "meta/info.json").write_bytes(info)  # the crash came just before the last step
    for i, name in enumerate((TABLE, VIDEO, ROW)):
        (small_dataset / (name.format(4) + ".tmp")).write_bytes(b"half a file" * i)
    data = Dataset(small_dataset)
    assert len(data) == len(data.extras()) == 3
    builders.open_writer(small_dataset).append(builders.episode(3, 5))
    data = Dataset(small_dataset)
    assert [e["number"] for e in data.extras()] == [0, 1, 2, 3]
    np.testing.assert_allclose(data.state(3), builders.episode(3, 5).state, atol=1e-6)
    assert len(data.frames(3)) == 5
