"""Render README.md of this folder from the files in results/.

python benchmarks/render.py            write README.md
python benchmarks/render.py --check    fail if README.md differs from what the files render
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from calibration.render import Result, listed, main, table, text

HERE = Path(__file__).parent
PEERS = ("rlceiling", "nutpie", "pymc", "numpyro-loop", "numpyro-vmap")


@cache
def result(name: str) -> Result:
    return Result(name, HERE)


def intro() -> list[str]:
    files = [result(path.stem) for path in sorted((HERE / "results").glob("*.json"))]
    versions = sorted({f"JAX {own.data['machine']['jax']}, NumPyro {own.data['machine']['numpyro']}" for own in files})
    cores = sorted({str(own.data["machine"]["cores"]) for own in files})
    return [
        "# Benchmarks",
        text(
            f"""Rendered by `python benchmarks/render.py` from [results](results), where each command quoted here (in
            `benchmarks/`) writes its tables, with the machine: {listed(cores)} cores shared with other work, so times
            are upper bounds; {listed(versions)}. After a command stand commit and date of the measurement. † Carried
            over: copied from terminal output in the README of that commit. Whether the stated probabilities come true
            is measured in [calibration](calibration/README.md)."""
        ),
    ]


def scalerl() -> list[str]:
    own = result("scalerl")
    ceilings = own.rows("published ceilings and 90% intervals")
    identified = [row for row in ceilings if row["verdict"] == "IDENTIFIED"]
    outside = [f"{row['recipe']} (`{row['verdict']}`)" for row in ceilings if not row["inside"]]
    scores = own.rows("forecasts")
    pairs = [line for line in own.lines if line.startswith("P(") and "inconclusive" not in line]
    inconclusive = sum("inconclusive" in line for line in own.lines)
    return [
        "## The bundled ScaleRL runs",
        text(
            f"""All {len(ceilings)} recipes fitted ({own.measured}); {own.lines[0]}. The 90% credible interval of A
            contains the published ceiling of {sum(row["inside"] for row in ceilings)} recipes, and of
            {sum(row["inside"] for row in identified)} of the {len(identified)} that are `IDENTIFIED`; outside:
            {listed(outside) if outside else "none"}. Coverage and CRPS of the held-out evaluations after 8,100
            GPU-hours:"""
        ),
        table(
            ["", *(row["method"] for row in scores)],
            [
                ["coverage of 50% intervals", *(f"{row['in 50%']:.2f}" for row in scores)],
                ["coverage of 90% intervals", *(f"{row['in 90%']:.2f}" for row in scores)],
                ["CRPS", *(f"{row['crps']:.4f}" for row in scores)],
            ],
        ),
        text(
            f"""Chances that one recipe's ceiling is higher: {"; ".join(re.sub(r" [(]Monte.*", "", p) for p in pairs)}.
            Of the pairs asked about, {inconclusive} are inconclusive."""
        ),
    ]


def peers() -> list[str]:
    own, many = result("throughput-scalerl"), result("throughput-1000")
    rows = []
    for method in PEERS:
        row = own.row("ScaleRL, training points", method=method)
        rows.append(
            [method, f"{row['fits']:g}", f"{row['compile s']:.1f}", f"{row['fits/s']:.3g}", f"{row['ESS/s']:,.0f}"]
        )
        rows[-1] += [
            f"{row['passed']:g}",
            f"{row['divergences']:g}",
            f"{row['peak GiB']:.2f}",
            f"{row['ESS/s ratio']:,.0f}",
        ]
    thousand = many.row("1000 runs simulated from the priors", method="rlceiling")
    return [
        "## Beside PyMC, NumPyro and nutpie",
        text(
            f"""The same model, priors and data ({own.measured}; {own.lines[0].partition(", ")[2]}). The peers sample
            natural coordinates with a dense covariance of the noise, as a user would write them, and keep as many
            draws, after 4 x 1000 steps of warm-up (4 x 500 in rlceiling, nutpie's own default). They get few recipes
            because each takes long. ESS/s is the smallest effective sample size of any parameter, bulk or tail, summed
            over fits, divided by seconds without compiling (the NumPyro loop compiles for each recipe, and this
            counts)."""
        ),
        table(
            [
                "",
                "fits",
                "compile (s)",
                "fits/s",
                "ESS/s",
                "share converged",
                "divergences",
                "peak GiB",
                "ESS/s, ratio",
            ],
            rows,
        ),
        text(
            f"""{thousand["fits"]:,.0f} runs simulated from the priors: {thousand["fits/s"]:.2f} fits/s,
            {thousand["passed"]:.1%} converged, peak {thousand["peak GiB"]:.2f} GiB (`throughput.py`, {many.when})."""
        ),
    ]


def times() -> list[str]:
    where, latency, report = result("where-time-goes"), result("latency"), result("report")
    watch = result("watch")
    rounds = [f"{row['what']} {row['seconds']:.2f} s" for row in watch.rows("CPU time")]
    parts = where.rows("of one fit")
    rows = [[row["what"], f"{row['value']:.3g} {row['unit']}"] for row in latency.rows("latency")]
    pages = [
        f"{row['recipes']} recipes in {row['report (s)']:.0f} s ({row['size (MB)']:.1f} MB)"
        for row in report.rows("report")
    ]
    spent = [
        f"{row['part']} {row['ms']:.0f} ms ({row['share']})"
        for row in parts
        if row["ms"] >= 5 and row["part"][0] != "("
    ]
    return [
        "## Where the time goes",
        text(
            f"""One fit of ScaleRL ({where.measured}): {listed(spent[:-1])}, in all {parts[-1]["ms"]:.0f} ms;
            {where.lines[-1]}. The whole sampling loop is one kernel: no scatter in the gradient, all chains in one loop
            over gradient steps, one metric and step size for all chains of a fit, momenta drawn before the loop. More
            than four chains side by side on a CPU do not pay. `backend="gpu"` has no benchmark of its own yet."""
        ),
        text(f"What a user waits for ({latency.measured}):"),
        table(["", "time or memory"], rows),
        text(f"The HTML report ({report.measured}) is written for {listed(pages)}; most of that time is matplotlib's."),
        text(f"CPU time of `rlceiling watch` on a log of one run ({watch.measured}): {listed(rounds)}."),
    ]


def logs() -> list[str]:
    measured = result("logs")
    large = measured.rows("large")[0]
    return [
        "## Logs",
        text(
            f"""{measured.lines[0]}, in the exact structure of each trainer and tracker, with the right metric, compute
            and number of evaluations ({measured.measured}). JSON lines of {large["GB"]:.3g} GB ({large["rows"]:,} rows
            of about 120 keys) are read in {large["CPU s"]:.0f} CPU seconds, with a peak of
            {large["peak GiB"]:.2f} GiB of memory."""
        ),
    ]


def batches() -> list[str]:
    runs, kills, troubles, memory = (result(f"batch-{part}") for part in ("executors", "kills", "troubles", "memory"))
    killed = [row for row in kills.rows("kills") if not row["killed"].startswith("nobody")]
    whole = [
        row
        for row in killed
        if row["done by then"] == row["of these kept"] and row["in all"] == row["same bytes"] and row["exit code"] == 0
    ]
    largest = memory.rows("memory")[-1]
    cases = [line.rpartition(": exit code ") for line in troubles.lines if ": exit code " in line]
    ended, refused = ([what for what, _, code in cases if (code == "0") is good] for good in (True, False))
    ended = [what for what in ended if what.startswith("a ")]  # the others show that a batch goes on afterwards
    codes = sorted({code for *_, code in cases if code != "0"})
    return [
        "## Batches",
        text(f"{runs.lines[0]}; each executor has two workers and a store of its own ({runs.measured}):"),
        table(
            ["", "seconds", "jobs a second", "posteriors", "same bytes as by threads"],
            [
                [row["executor"], f"{row['seconds']:.0f}", f"{row['jobs a second']:.2f}"]
                + [str(row[key]) for key in ("posteriors", "same bytes as by threads")]
                for row in runs.rows("executors")
            ],
        ),
        text(
            f"""A driver or a worker is killed (signal 9) at a random moment, and after a driver the same command is run
            again ({kills.measured}): in {len(whole)} of {len(killed)} cases all posteriors written before the kill are
            kept, and all jobs end with the bytes of a batch without a kill."""
        ),
        text(
            f"""In trouble ({troubles.measured}), a batch ends with exit code 0 in spite of {listed(ended)}. It ends
            with exit code {listed(codes)} and a sentence that names the reason in these cases: {"; ".join(refused)}."""
        ),
        text(
            f"""{largest["jobs"]:,} jobs whose posterior is given instead of fitted ({memory.measured}): planned in
            {largest["plan (s)"]:.1f} s, then {largest["ms a job"]:.2f} ms for each job, peak memory of the driver
            {largest["peak of the driver (GiB)"]:.2f} GiB; {memory.lines[0]}."""
        ),
    ]


def render() -> str:
    sections = (intro, scalerl, peers, times, logs, batches)
    return "\n\n".join(part for section in sections for part in section()) + "\n"


if __name__ == "__main__":
    main(render(), HERE / "README.md", "benchmarks/render.py")
