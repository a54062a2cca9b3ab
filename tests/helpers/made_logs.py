"""Logs in the exact structure of each trainer and tracker, of one run whose evaluations are known."""

from __future__ import annotations

import csv
import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

STEPS = (0, 10, 20, 30, 40)
REWARDS = (0.20, 0.31, 0.38, 0.42, 0.44)
EVALUATED = dict(zip(STEPS, REWARDS, strict=True))
HOUR = 3600.0
STEP_SECONDS = 90.0
"""Duration of a step, of 8 GPUs: 0.2 GPU-hours."""


class Made(NamedTuple):
    """A log, and what is to be read from it without any option.

    Attributes
    ----------
    name : str
        What writes it.
    write : callable
        Writes it into a folder, and returns the path to be read.
    metric, compute : str
        Names of the metric and of the resource.
    each : float
        Compute of a step.
    steps : tuple
        Updates that are done at each evaluation.
    n_eval : float
        Number of answers behind each reward, or NaN.
    options : dict
        Options without which the log is ambiguous; empty if it is read as it is.
    """

    name: str
    write: Callable[[Path], Path]
    metric: str
    compute: str = "step"
    each: float = 1.0
    steps: tuple[float, ...] = STEPS
    n_eval: float = float("nan")
    options: dict[str, Any] = {}  # noqa: RUF012


def lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def text(path: Path, *parts: str) -> Path:
    path.write_text("\n".join(parts) + "\n")
    return path


def trl_history() -> list[dict[str, Any]]:
    """`log_history` of TRL with logging_steps 5 and eval_steps 10; the mean step takes 90 s."""
    history: list[dict[str, Any]] = []
    for step in range(0, 41, 5):
        if step:
            train = {"loss": 0.01, "reward": 0.5, "rewards/accuracy_reward/mean": 0.4, "num_tokens": 1000.0 * step}
            history.append({**train, "step_time": STEP_SECONDS, "epoch": step / 100, "step": step})
        if step in EVALUATED:
            evaluated = {"eval_rewards/accuracy_reward/mean": EVALUATED[step], "eval_reward": 2 * EVALUATED[step]}
            history.append({**evaluated, "eval_loss": None, "eval_runtime": 88.0, "epoch": step / 100, "step": step})
    return history


def trl(folder: Path) -> Path:
    for step in (20, 40):
        history = [row for row in trl_history() if row["step"] <= step]
        state = {"epoch": 1.0, "global_step": step, "log_history": history, "max_steps": 40}
        path = folder / f"checkpoint-{step}" / "trainer_state.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(state, indent=2))
    return folder


def verl_row(step: int) -> dict[str, float]:
    train = {"critic/score/mean": 0.3, "timing_s/step": STEP_SECONDS, "training/global_step": step}
    train |= {"perf/total_num_tokens": 72000.0, "perf/throughput": 100.0}  # 720 GPU-seconds
    return {
        **(train if step else {}),
        **({"val-core/gsm8k/acc/mean@8": EVALUATED[step]} if step in EVALUATED else {}),
        **({"val-aux/gsm8k/acc/std@8": 0.2, "val-aux/gsm8k/acc/best@8/mean": 0.9} if step in EVALUATED else {}),
    }


def verl_file(folder: Path) -> Path:
    return lines(folder / "grpo.jsonl", ({"step": step, "data": verl_row(step)} for step in range(41)))


def verl_console(folder: Path) -> Path:
    printed = [
        f"\x1b[36m(TaskRunner pid=4711)\x1b[0m step:{step} - "
        + " - ".join(f"{key}:np.float64({value!r})" for key, value in verl_row(step).items())
        for step in range(41)
    ]
    first = "Initial validation metrics: {'val-core/gsm8k/acc/mean@8': 0.2}"
    return text(folder / "train.log", "INFO starting", first, *printed, "Training Progress: 100%")


def verl_mlflow(folder: Path) -> Path:
    run = folder / "mlruns" / "1" / "0a1b2c"
    for name in ("metrics", "params", "tags"):
        (run / name).mkdir(parents=True)
    text(run / "meta.yaml", "artifact_uri: x", "run_name: grpo-7b")
    text(run / "tags" / "mlflow.runName", "grpo-7b")
    points: dict[str, list[str]] = {}
    for step in range(41):
        for key, value in verl_row(step).items():
            points.setdefault(key.replace("@", "_at_"), []).append(f"{1771000000000 + 1000 * step} {value} {step}")
    for key, own in points.items():
        file = run / "metrics" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        text(file, *own)
    return folder / "mlruns"


def verl_samples(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        right = round(reward * 100)
        rows = ({"input": "q", "output": "a", "gts": "1", "score": float(i < right), "step": step} for i in range(100))
        lines(folder / "validation" / f"{step}.jsonl", rows)
    return folder / "validation"


def prime_rl(folder: Path) -> Path:
    rows = []
    for step in range(41):
        now = 1771000000.0 + STEP_SECONDS * step
        if step in EVALUATED:
            own = {
                "eval/math/effective/agent/avg@4": EVALUATED[step],
                "eval/math/all/agent/avg@4": EVALUATED[step] - 0.01,
            }
            rows.append({"step": step, "time": now, **own, "eval/math/policy_version": float(step)})
        train = {"train/agg/effective/agent/reward/mean": 0.5, "progress/total_tokens": 1000 * (step + 1)}
        rows.append({"step": step, "time": now + 80.0, **train, "time/step": STEP_SECONDS})
    return lines(folder / "grpo" / "metrics.jsonl", rows)


def tinker(folder: Path) -> Path:
    return lines(
        folder / "grpo" / "metrics.jsonl",
        (
            {
                "step": step,
                "progress/batch": step,
                "optim/lr": 1e-5,
                "env/all/reward/total": 0.5,
                "env/all/total_ac_tokens": 1000,
                "time/total": STEP_SECONDS,
                **({"test/env/all/correct": EVALUATED[step]} if step in EVALUATED else {}),
            }
            for step in range(41)
        ),
    )


def openrlhf_console(folder: Path) -> Path:
    return text(
        folder / "openrlhf.log",
        *(
            f"(PPOTrainer pid=12) ✨ Global step {step}: "
            + str({**took("timing/step_total", step), "reward": 0.4, **evaluation("eval/eval_math_pass1", step)})
            for step in range(41)
        ),
    )


def evaluation(key: str, step: int) -> dict[str, float]:
    return {key: EVALUATED[step]} if step in EVALUATED else {}


def took(key: str, step: int) -> dict[str, float]:
    return {key: STEP_SECONDS} if step else {}


def skyrl_console(folder: Path) -> Path:
    printed = []
    for step in range(41):
        row = {**({"timing/step": f"{STEP_SECONDS:.4f}"} if step else {}), "reward/avg_raw_reward": "0.4100"}
        row |= {key: f"{value:.4f}" for key, value in evaluation("eval/gsm8k/avg_score", step).items()}
        row |= {key: f"{value:.4f}" for key, value in evaluation("eval/all/avg_score", step).items()}
        body = ",\n ".join(f"'{key}': '{value}'" for key, value in row.items())
        printed.append(f"(skyrl_entrypoint pid=9) Step {step}: {{{body}}}")
    return text(folder / "skyrl.out", *printed)


def skyrl_dumps(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        place = folder / "dumped_evals" / f"global_step_{step}_evals"
        lines(place / "aggregated_results.jsonl", [{"eval/gsm8k/avg_score": reward, "eval/gsm8k/pass_at_1": reward}])
        lines(place / "gsm8k.jsonl", ({"input_prompt": "q", "score": 1.0} for _ in range(50)))
    return folder / "dumped_evals"


def slime_console(folder: Path) -> Path:
    """Evaluation r > 0 is of the model after r + 1 rollouts."""
    printed = [f"[2026-06-01 12:00:00] rollout_metrics.py:9 - eval 0: {{'eval/aime': {REWARDS[0]}}}"]
    for rollout in range(40):
        printed.append(
            f"[2026-06-01] m.py:4 - rollout {rollout}: {{'rollout/raw_reward': 0.4, 'rollout/step': {rollout}}}"
        )
        printed.append(f"[2026-06-01] m.py:5 - perf {rollout}: {{'perf/step_time': {STEP_SECONDS}}}")
        if rollout + 1 in EVALUATED:
            own = {"eval/aime": EVALUATED[rollout + 1], "eval/aime-truncated_ratio": 0.1, "eval/aime-pass@4": 0.9}
            printed.append(f"[2026-06-01] m.py:6 - eval {rollout}: {own}")
    return text(folder / "slime.log", *printed)


def roll_console(folder: Path) -> Path:
    printed = ["INFO start"]
    for step in range(41):
        if step in EVALUATED:
            printed.append(
                json.dumps({"val_correct/all/mean": EVALUATED[step], "val_correct/math/mean": EVALUATED[step]})
            )
        metrics = {
            "critic/score/mean": 0.4,
            "time/step_total": STEP_SECONDS,
            **evaluation("val_correct/all/mean", step),
        }
        printed.append(f"metrics_tag: {json.dumps({'step': step, 'metrics': metrics})}")
    return text(folder / "roll.log", *printed)


def nemo_console(folder: Path) -> Path:
    block = "📊 Validation Results:\n    • Accuracy: {:.4f}\n    • Average response length: 512.0 tokens\n"
    block += "    • Samples processed: 256"
    printed = ["🔍 Running initial validation...", block.format(REWARDS[0])]
    for step in range(1, 41):
        printed.append(f"========================= Step {step}/40 =========================")
        if step in EVALUATED:
            printed.append(block.format(EVALUATED[step]))
    return text(folder / "nemo.log", *printed)


def nemo_samples(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        right = round(reward * 100)
        rows = ({"content": "q", "rewards": float(i < right), "idx": i} for i in range(100))
        lines(folder / "samples" / f"val_data_step{step}.jsonl", rows)
    return folder / "samples"


def nemo_dump(folder: Path) -> Path:
    document = {
        "validation/accuracy": {str(step): reward for step, reward in EVALUATED.items()},
        "train/global_valid_toks": {str(step): 72000.0 for step in range(1, 41)},
        "timing/train/valid_tokens_per_sec_per_gpu": {str(step): 100.0 for step in range(1, 41)},
    }
    path = folder / "grpo.json"
    path.write_text(json.dumps(document))
    return path


def prime_rollouts(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        right = round(reward * 100)
        rows = ({"env": "math", "reward": float(i < right), "example_id": i} for i in range(100))
        lines(folder / "rollouts" / f"step_{step}" / "eval" / "effective" / "traces.jsonl", rows)
    return folder / "rollouts"


def tensorboard_csv(folder: Path) -> Path:
    path = folder / "run-grpo-tag-eval_reward.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Wall time", "Step", "Value"])
        writer.writerows((1771000000.0 + STEP_SECONDS * step, step, reward) for step, reward in EVALUATED.items())
    return path


def wandb_chart(folder: Path) -> Path:
    path = folder / "wandb_export.csv"
    name = "grpo-7b - eval/accuracy"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["Step", name, f"{name}__MIN", f"{name}__MAX"])
        writer.writerows((step, reward, reward, reward) for step, reward in EVALUATED.items())
    return path


def wandb_rows() -> list[dict[str, Any]]:
    """Rows of a history: training and evaluation in different calls of `log`."""
    rows: list[dict[str, Any]] = []
    for step in range(41):
        about = {"_runtime": STEP_SECONDS * step, "_timestamp": 1771000000.0 + STEP_SECONDS * step}
        if step:
            rows.append({**about, "train/global_step": step, "train/reward": 0.5})
        if step in EVALUATED:
            rows.append({**about, "train/global_step": step, "eval/rewards/accuracy_reward/mean": EVALUATED[step]})
    return [{"_step": number, **row} for number, row in enumerate(rows)]


def wandb_parquet(folder: Path) -> Path:
    import pandas as pd

    path = folder / "history.parquet"
    pd.DataFrame(wandb_rows()).to_parquet(path)
    return path


def wandb_lines(folder: Path) -> Path:
    return lines(folder / "history.jsonl", wandb_rows())


def trackio_store(folder: Path) -> Path:
    path = folder / "project.db"
    store = sqlite3.connect(path)
    store.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, "
        "run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"
    )
    for number, row in enumerate(wandb_rows()):
        own = {key: value for key, value in row.items() if not key.startswith("_")}
        seconds = int(STEP_SECONDS * row["train/global_step"])
        stamp = f"2026-06-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}+00:00"
        line = ("r", stamp, "grpo-7b", number, json.dumps(own).encode())  # Trackio stores bytes
        store.execute("INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)", line)
    store.commit()
    store.close()
    return path


def mlflow_store(folder: Path) -> Path:
    path = folder / "mlflow.db"
    store = sqlite3.connect(path)
    store.execute("CREATE TABLE runs (run_uuid TEXT, name TEXT)")
    store.execute("INSERT INTO runs VALUES ('0a1b', 'grpo-7b')")
    store.execute(
        "CREATE TABLE metrics (key TEXT, value REAL, timestamp INTEGER, run_uuid TEXT, step INTEGER, is_nan INTEGER)"
    )
    for step in range(41):
        for key, value in verl_row(step).items():
            name = key.replace("@", "_at_")
            store.execute("INSERT INTO metrics VALUES (?, ?, ?, '0a1b', ?, 0)", (name, value, 1000 * step, step))
    store.commit()
    store.close()
    return path


def lm_eval(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        place = folder / "grpo" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        found = {
            "results": {
                "gsm8k": {
                    "alias": "gsm8k",
                    "exact_match,strict-match": reward,
                    "exact_match_stderr,strict-match": "N/A",
                    "sample_len": 200,
                }
            },
            "config": {"model": "hf", "model_args": f"pretrained=/runs/grpo/checkpoint-{step},dtype=bfloat16"},
            "n-samples": {"gsm8k": {"original": 1319, "effective": 200}},
            "date": 1771000000.0 + step,
            "model_name": f"/runs/grpo/checkpoint-{step}",
        }
        (place / f"results_2026-06-01T00-00-{step:02}.000.json").write_text(json.dumps(found, indent=2))
    return folder / "grpo"


def inspect_log(step: int, reward: float) -> dict[str, Any]:
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "aime",
            "model": f"vllm//runs/grpo/global_step_{step}",
            "created": f"2026-06-01T00:00:{step:02}+00:00",
            "dataset": {"samples": 30},
            "config": {"epochs": 4},
        },
        "results": {
            "total_samples": 120,
            "completed_samples": 120,
            "scores": [
                {
                    "name": "match",
                    "scorer": "match",
                    "metrics": {"accuracy": {"value": reward}, "stderr": {"value": 0.1}},
                }
            ],
        },
    }


def inspect_json(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        place = folder / "logs"
        place.mkdir(exist_ok=True)
        (place / f"2026-06-01_{step}_aime.json").write_text(json.dumps(inspect_log(step, reward), indent=2))
    return folder / "logs"


def inspect_zip(folder: Path) -> Path:
    for step, reward in EVALUATED.items():
        with zipfile.ZipFile(folder / f"2026-06-01_{step}_aime.eval", "w") as archive:
            archive.writestr("header.json", json.dumps(inspect_log(step, reward)))
    return folder


VERL, GPU = "val-core/gsm8k/acc/mean@8", STEP_SECONDS * 8 / HOUR
WALL = STEP_SECONDS / HOUR

LOGS = (
    Made("TRL checkpoints", trl, "eval_rewards/accuracy_reward/mean", "wall_hours", WALL),
    Made("verl file logger", verl_file, VERL, "gpu_hours", GPU),
    Made("verl console", verl_console, VERL, "gpu_hours", GPU),
    Made("verl validation samples", verl_samples, "val/score", n_eval=100),
    Made("prime-rl metrics", prime_rl, "eval/math/effective/agent/avg@4", "wall_hours", WALL),
    Made("prime-rl rollouts", prime_rollouts, "eval/math/effective/reward", n_eval=100),
    Made("tinker-cookbook metrics", tinker, "test/env/all/correct", "wall_hours", WALL),
    Made("OpenRLHF console", openrlhf_console, "eval/eval_math_pass1", "wall_hours", WALL),
    Made("SkyRL console", skyrl_console, "eval/gsm8k/avg_score", "wall_hours", WALL),
    Made("SkyRL dumped_evals", skyrl_dumps, "eval/gsm8k/avg_score", n_eval=50),
    Made("slime console", slime_console, "eval/aime", "wall_hours", WALL),
    Made("ROLL console", roll_console, "val_correct/math/mean", "wall_hours", WALL),
    Made("NeMo-RL console", nemo_console, "validation/accuracy", n_eval=256),
    Made("NeMo-RL validation samples", nemo_samples, "validation/accuracy", n_eval=100),
    Made("NeMo-RL dump of TensorBoard", nemo_dump, "validation/accuracy", "gpu_hours", 720 / HOUR),
    Made("TensorBoard CSV", tensorboard_csv, "eval_reward", "wall_hours", WALL),
    Made("W&B chart CSV", wandb_chart, "eval/accuracy"),
    Made("W&B history Parquet", wandb_parquet, "eval/rewards/accuracy_reward/mean", "wall_hours", WALL),
    Made("W&B history JSON lines", wandb_lines, "eval/rewards/accuracy_reward/mean", "wall_hours", WALL),
    Made("Trackio store", trackio_store, "eval/rewards/accuracy_reward/mean", "wall_hours", WALL),
    Made("MLflow files", verl_mlflow, VERL, "gpu_hours", GPU),
    Made("MLflow store", mlflow_store, VERL, "gpu_hours", GPU),
    Made("lm-evaluation-harness", lm_eval, "gsm8k/exact_match,strict-match", n_eval=200),
    Made("Inspect JSON", inspect_json, "aime/match/accuracy", n_eval=120),
    Made("Inspect .eval", inspect_zip, "aime/match/accuracy", n_eval=120),
)
