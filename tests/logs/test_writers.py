"""Logs made by the trackers themselves, where they are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from made_logs import EVALUATED, GPU, REWARDS, VERL, trl_history, verl_row
from rlceiling.errors import DataError
from rlceiling.logs.read import read_log


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def assert_read(path: Path, metric: str = VERL, compute: str = "gpu_hours", each: float = GPU) -> None:
    runs = read_log(path)
    assert (runs.reward_label, runs.compute_label) == (metric, compute)
    np.testing.assert_allclose(runs.table["reward"], REWARDS, rtol=1e-6)
    np.testing.assert_allclose(runs.table["compute"], np.array(list(EVALUATED)) * each, rtol=1e-6)


@needs("transformers")
def test_state_of_a_trainer(tmp_path: Path) -> None:
    from transformers.trainer_callback import TrainerState

    place = tmp_path / "checkpoint-40"
    place.mkdir()
    TrainerState(epoch=1.0, global_step=40, log_history=trl_history()).save_to_json(str(place / "trainer_state.json"))
    assert_read(place / "trainer_state.json", "eval_rewards/accuracy_reward/mean", "wall_hours", 90 / 3600)


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_events_of_tensorboard_of_a_resumed_run(tmp_path: Path) -> None:
    """The second file of the folder begins at step 21, after the first went on to 35 with other values."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def write(steps: range, shift: float) -> None:
        writer = EventFileWriter(str(tmp_path / "tb" / "grpo"), filename_suffix=f".{steps[0]}")
        for step in steps:
            for tag, value in verl_row(step).items():
                own = Summary(value=[Summary.Value(tag=tag, simple_value=value - shift * tag.startswith("val-core"))])
                writer.add_event(Event(wall_time=1771000000.0 + step, step=step, summary=own))
        writer.close()

    write(range(0, 21), 0.0)
    assert len(read_log(tmp_path / "tb").table) == 3
    folder = tmp_path / "tb" / "grpo"
    (first,) = folder.iterdir()
    first.rename(folder / "events.out.tfevents.1771000000.host.1.0")
    write(range(21, 36), 0.2)
    (second,) = (path for path in folder.iterdir() if "1771000000" not in path.name)
    second.rename(folder / "events.out.tfevents.1771000100.host.1.0")
    write(range(21, 41), 0.0)
    assert_read(tmp_path / "tb")
    last = max(folder.iterdir(), key=lambda path: path.name.split(".")[3])
    last.write_bytes(last.read_bytes()[:-25])  # as while it is being written
    assert len(read_log(tmp_path / "tb").table) == 5
    assert any("resumed: the step goes back from 35 to 21" in note for note in read_log(tmp_path / "tb").notes)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_event_files_name_the_package_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1771000000.host.1.0").write_bytes(b"\0" * 16)
    with pytest.raises(DataError, match=r"install it with `pip install \"rlceiling\[logs\]\"`"):
        read_log(tmp_path)


@needs("trackio")
@pytest.mark.filterwarnings("ignore")
def test_store_of_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    import trackio.sqlite_storage as storage

    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path)
    for step in range(41):
        storage.SQLiteStorage.log("project", "grpo", verl_row(step), step=step)
    (path,) = tmp_path.glob("*.db")
    assert_read(path)


@needs("mlflow")
@pytest.mark.filterwarnings("ignore")
def test_files_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.entities import Metric
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(tmp_path / "mlruns"))
    run = store.create_run("0", "me", 0, [], "grpo")
    for step in range(41):
        for key, value in verl_row(step).items():
            metric = Metric(key.replace("@", "_at_"), value, 1771000000000 + 1000 * step, step)
            store.log_metric(run.info.run_id, metric)
    assert_read(tmp_path / "mlruns")
