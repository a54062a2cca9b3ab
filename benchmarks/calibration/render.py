"""Render README.md of this folder from the files in results/.

python benchmarks/calibration/render.py            write README.md
python benchmarks/calibration/render.py --check    fail if README.md differs from what the files render
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE / "README.md"
FOLDER = "benchmarks/calibration/"
SETS = ("scalerl", "grpo_group_size", "pods_multigpu")
METHODS = ("rlceiling", "independent noise", "least squares")
EACH_EVALUATION, EACH_RUN = "every evaluation counted once", "every cut run counted once"
KEYS = ("chance", "identified", "brier")
SCORES = ("in 50%", "in 90%", "crps", "bias")
MOST_LOST = 1.05
"""Largest share of a recipe's CRPS alone that a history of another study should leave."""
LOW = 0.7
"""Recipes with less coverage are named."""


class Result:
    """One result file of a folder."""

    def __init__(self, name: str, folder: Path = HERE) -> None:
        self.data: dict[str, Any] = json.loads((folder / "results" / f"{name}.json").read_text())
        self.command: str = self.data["command"].removeprefix("python benchmarks/").removeprefix("calibration/")
        self.lines: list[str] = self.data["lines"]
        self.carried: bool = self.data["measured_by"] != "this command"

    def rows(self, title: str, **where: Any) -> list[dict[str, Any]]:
        table = self.data["tables"][title]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        return [row for row in rows if all(row[key] == wanted for key, wanted in where.items())]

    def row(self, title: str, **where: Any) -> dict[str, Any]:
        (row,) = self.rows(title, **where)
        return row

    def titles(self) -> list[str]:
        return list(self.data["tables"])

    @property
    def when(self) -> str:
        """Commit and date of the measurement, and what is to be known about it."""
        changed = " with uncommitted changes" if self.data["uncommitted_changes"] else ""
        stale = ", **stale**" * self.data["stale"]
        return f"`{self.data['commit']}`{'†' * self.carried}{changed}, {self.data['date']}{stale}"

    @property
    def measured(self) -> str:
        """The command and when it measured; the version only where it is not that of all other files."""
        version = "" if len(versions()) == 1 else f"rlceiling {self.data['rlceiling']}, "
        return f"`{self.command}`, {version}{self.when}"


@cache
def result(name: str) -> Result:
    return Result(name)


@cache
def results() -> list[Result]:
    return [result(path.stem) for path in sorted((HERE / "results").glob("*.json"))]


@cache
def versions() -> list[str]:
    return sorted({own.data["rlceiling"] for own in results()})


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(words: str) -> str:
    return textwrap.fill(" ".join(words.split()), 120, break_long_words=False, break_on_hyphens=False)


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def listed(words: Iterable[str]) -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def intro() -> list[str]:
    reasons = sorted({own.data["reason"] for own in results() if own.data["stale"]})
    stale = f"**Stale**: {'; or '.join(reasons)}." if reasons else ""
    return [
        "# Calibration: how often the stated probabilities come true",
        text(
            f"""Rendered by `python {FOLDER}render.py` from [results](results), where each command quoted here (in
            `{FOLDER}`) writes its tables, with the machine. After a command stand commit and date of the measurement,
            with rlceiling {listed(versions())}. † Carried over: copied from terminal output in the README of that
            commit. {stale}"""
        ),
        text(
            """Coverage is the share of held-out evaluations, or of true values, inside a 90% credible interval; it
            should be near 0.90. CRPS is the distance between a forecast distribution and the outcome in units of
            reward; lower is better. A is the ceiling, C_mid the compute at half of the rise, C_max the compute at the
            end of a run."""
        ),
    ]


def futures() -> list[str]:
    everything, rows = result("futures-all"), []
    of = {f"`{name}`": (result(f"futures-{name}"), "all") for name in SETS}
    of |= {"all, each evaluation counted once": (everything, EACH_EVALUATION)}
    of |= {"all, each cut run counted once": (everything, EACH_RUN)}
    for name, (own, title) in of.items():
        scores = (own.row(title, method=method) for method in METHODS)
        rows.append([name, *(f"{row['in 90%']:.2f} ({row['crps']:.4f})" for row in scores), own.when])
    (ours, independent), (ours_by_run, independent_by_run) = (
        [everything.row(title, method=method) for method in METHODS[:2]] for title in (EACH_EVALUATION, EACH_RUN)
    )
    low = [row for row in result("futures-scalerl").rows("the model by recipe") if row["in 90%"] < LOW]
    misses = [f"{row['recipe']} ({row['in 90%']:.2f})" for row in sorted(low, key=lambda row: row["in 90%"])]
    verdicts = [row for name in SETS for row in result(f"futures-{name}").rows("verdicts")]
    judged, held = sum(row["judged"] for row in verdicts), sum(row["held"] for row in verdicts)
    variants = result("variants")
    default, flat = (variants.row(EACH_RUN, changed=name) for name in ("default", "share Beta(1.5, 1.5)"))
    others = [row for row in variants.rows(EACH_RUN) if row["changed"] != "default"]
    coverage, crps = ([row[key] for row in others] for key in ("in 90%", "crps"))
    return [
        "## Forecasts of real runs, and by how much independent noise is too narrow",
        text(
            f"""`{everything.command} [data]` cuts runs and forecasts their held-out evaluations; only `scalerl` is
            bundled, the others are read from `shared/data` beside the repository. Coverage, with the CRPS in
            brackets:"""
        ),
        table(["data", "rlceiling", "with independent noise", "least squares", "measured at"], rows),
        text(
            f"""The noise of a run is autocorrelated. With independent noise the same model has a coverage of
            {independent["in 90%"]:.2f} instead of {ours["in 90%"]:.2f} ({independent_by_run["in 90%"]:.2f} instead of
            {ours_by_run["in 90%"]:.2f} if each cut run counts once), with intervals
            {independent["width"] / ours["width"]:.2f} times as wide. Coverage is lowest for runs that leave their curve
            after the cut ([plot](futures-scalerl.png)), in `scalerl`
            {listed(misses) if misses else f"none below {LOW:g}"}. Of {judged} ceilings that are `IDENTIFIED` at the cut
            and at the end, {held} end inside the interval of the cut."""
        ),
        text(
            f"""With one prior or data treatment changed at a time and half the draws ({variants.measured}),
            {len(others)} alternatives have a coverage of {min(coverage):.2f} to {max(coverage):.2f} and a CRPS of
            {min(crps):.4f} to {max(crps):.4f}, the defaults {default["in 90%"]:.2f} and {default["crps"]:.4f} (each cut
            run counts once). Without a preference for autocorrelated noise, Beta(1.5, 1.5), they are
            {flat["in 90%"]:.2f} and {flat["crps"]:.4f}."""
        ),
    ]


def learning() -> list[str]:
    siblings, stranger = result("learning-scalerl"), result("learning-grpo_group_size")
    cuts = ("half of the train part", "end of the train part")
    ways = {"learned from others": "under priors from the 22 others", "alone": "alone"}
    ways |= {name: name for name in ("least squares", "last value")}
    head = ["forecast", "cut", "in 50%", "in 90%", "CRPS", "bias", "`IDENTIFIED`"]

    def cells(own: Result, title: str, method: str) -> list[str]:
        row = own.row(title, method=method)
        scores = [f"{row[key]:{form}}" for key, form in zip(SCORES, (".2f", ".2f", ".4f", "+.4f"), strict=True)]
        return [*scores, "" if row["identified"] is None else f"{row['identified']:.0%}"]

    rows = [[shown, cut, *cells(siblings, cut, method)] for cut in cuts for method, shown in ways.items()]
    others = [
        [shown.replace("the 22 others", "`scalerl`"), *cells(stranger, "all cuts", method)]
        for method, shown in ways.items()
    ]
    ratios = [
        f"{stranger.row(title, method='learned from others')['crps'] / stranger.row(title, method='alone')['crps']:.2f}"
        f" at {title.removesuffix(' step')} steps"
        for title in stranger.titles()
        if title.endswith(" step")
    ]
    by_recipe = siblings.rows(f"{cuts[0]}, by recipe")
    better = [row for row in by_recipe if row["learned from others | crps"] < row["alone | crps"]]
    worst = max(by_recipe, key=lambda row: row["learned from others | crps"] - row["alone | crps"])
    verdicts = siblings.row(f"{cuts[1]}, verdicts", method="learned from others")
    unlike = [row["unlike in noise"] for row in stranger.rows("unlike")]
    numbers = [line.partition(": ")[2].partition(" cut runs")[0] for line in siblings.lines[:2]]
    left = [sum(map(int, re.findall(r"left out (\d+)", line))) for line in siblings.lines[:2]]
    return [
        "## Priors learned from earlier runs",
        text(
            f"""Each recipe of `scalerl` is cut at half and at the end of its train part, and its later evaluations are
            forecast under priors that were learned from the train parts of the 22 other recipes
            ({siblings.measured}). At half, {numbers[0]} recipes can be used and {left[0]} have fewer than 4 evaluations
            before the cut; at the end, {numbers[1]} can be used and {left[1]} have no later evaluation. Every cut run
            counts once. Bias is forecast minus outcome, in units of reward; the last column is the share of runs whose
            ceiling is `IDENTIFIED`."""
        ),
        table(head, rows),
        text(
            f"""At half, {len(better)} of {len(by_recipe)} recipes have a lower CRPS under the learned priors
            ([one of them](learning.png), drawn by `learning.py picture`). {worst["recipe"]} loses most:
            {worst["learned from others | crps"]:.4f} instead of {worst["alone | crps"]:.4f}. Of
            {verdicts["judged"]:.0f} ceilings that are `IDENTIFIED` under the learned priors at the end of the train
            part and with all evaluations, {verdicts["held"]:.0f} end inside the interval of the cut."""
        ),
        text(
            f"""The recipes of `grpo_group_size` are of another task (GSM8K, up to step 5,000), which counts its compute
            in steps. Of priors from another unit only what was learned of the noise is used. Cut at 200, 400 and 800
            steps and forecast under priors from `scalerl` ({stranger.measured}; {stranger.lines[0]}):"""
        ),
        table([name for name in head if name != "cut"], others),
        text(
            f"""The CRPS divided by that of each recipe alone is {listed(ratios)}. The probability that these recipes
            are unlike those of `scalerl` in their noise is {min(unlike):.2f} to {max(unlike):.2f}. Learn the
            priors of curves from recipes of the same task."""
        ),
    ]


def several_studies() -> list[str]:
    own = result("studies")
    all_cuts, pairs = "every cut recipe counted once", "chances of pairs, level, by method"
    ways = {
        "alone": "alone, weak priors",
        "reference": "priors learned from the other four studies",
        "pooled, weak hyperpriors": "`pool=True` with its siblings, cut at the same place",
        "pooled": "the same, with the priors of the other four studies as `priors`",
        "history": "priors learned from its finished siblings",
        **{name: name for name in ("least squares", "line in ln C", "last value")},
    }
    head = ["forecast", "recipes", "in 50%", "in 90%", "CRPS", "of alone", "log score", "bias", "`IDENTIFIED`"]

    def cells(row: dict[str, Any]) -> list[str]:
        forms = {"recipes": ".0f", "in 50%": ".2f", "in 90%": ".2f", "crps": ".4f", "of alone": ".2f"}
        forms |= {"log score": ".2f", "bias": "+.4f"}
        shown = [f"{row[key]:{form}}" for key, form in forms.items()]
        # Pooled recipes have fewer draws here than the verdict asks for.
        unknown = row["identified"] is None or row["method"].startswith("pooled")
        return [*shown, "" if unknown else f"{row['identified']:.0%}"]

    rows = [[shown, *cells(own.row(all_cuts, method=method))] for method, shown in ways.items()]
    ratio = {(r["study"], r["cut"], r["method"]): r["of alone"] for r in own.rows("by study and cut")}
    number, missing = own.lines[0].split(" cut recipes; left out ")
    left_out = own.data["command"].split(" --without ")[1:]
    without = f"; {listed([f'`{name}`' for name in left_out])} only teaches" if left_out else ""
    few = f" {missing} more recipes have too few siblings to be pooled; they are in the second table."
    few = few if missing != "0" else ""
    models = list(ways)[1:5]
    ratios = [
        [f"`{study}`", f"{cut:g}", *(share(ratio.get((study, cut, method))) for method in models)]
        for study, cut, method in ratio
        if method == "alone"
    ]
    strangers = [
        (value, f"`{study}` under those of `{method.removeprefix('from ')}`")
        for (study, _, method), value in ratio.items()
        if method.startswith("from ")
    ]
    worst, name = max(strangers)
    within = sum(value <= MOST_LOST for value, _ in strangers)
    claims = [
        [ways[row["method"]], *(f"{row[key]:.3f}" for key in ("Brier", "order of last values")), *_claims(row)]
        for row in own.rows(pairs)
    ]
    return [
        "## Recipes of several studies",
        text(
            f"""Recipes of several studies are cut early, and their later evaluations are forecast ({own.measured};
            {number} cut recipes, each counted once{without}). The other four studies are what
            `SigmoidPriors.reference()` would be without the study itself.{few}"""
        ),
        table(head, rows),
        text("The CRPS divided by that of the same recipes alone, by study and share of the run that was fitted:"),
        table(["study", "cut", *(ways[method] for method in models)], ratios),
        text(
            f"""Each recipe, at its earliest cut, was also forecast under priors from one other study as if that were
            its own. Compute has another unit in most of them, so that only the noise is learned; between `scalerl` and
            `pods_l40s_gsm8k`, which share one, the start shows that the curves are unlike. The CRPS is at most
            {MOST_LOST:g} of that alone for {within} of {len(strangers)} ordered pairs of studies; the worst is
            {worst:.2f}, {name}."""
        ),
        text(
            f"""Chances that the level of one recipe is above that of another one, at {listed(own.lines[1].split())}
            times the cut, for all pairs that were cut at the same compute. One half has the Brier score .250; beside it
            that of the order of the last values, and how often claims came true:"""
        ),
        table(["chances", "Brier", "last values", ".5 to .7", ".7 to .9", "above .9"], claims),
        text(
            """Claims of .7 to .9 that one curve is above another came true, by how far ahead of the cut (this sets how
            far curves of unfinished recipes are compared, `VerdictRules.max_ahead`):"""
        ),
        table(["chances", *(f"at {ahead} times" for ahead in own.lines[1].split())], _by_distance(own, ways)),
    ]


def _by_distance(own: Result, ways: dict[str, str]) -> list[list[str]]:
    """Share of claims of .7 to .9 about curves that came true, by method and distance, over all studies and cuts."""
    true: dict[tuple[str, str], list[float]] = {}
    for row in own.rows("chances of pairs, recipe, by method and study and cut and ahead"):
        number = row["claims 0.7 to 0.9"]
        found = true.setdefault((row["method"], f"{row['ahead']:g}"), [0.0, 0.0])
        found[0] += number
        found[1] += number * (row["right of 0.7"] or 0.0)
    ahead = own.lines[1].split()
    methods = list(dict.fromkeys(method for method, _ in true))
    cells = {key: f"{right / number:.2f} of {number:.0f}" for key, (number, right) in true.items()}
    return [[ways[method], *(cells[method, one] for one in ahead)] for method in methods]


def pooled_beside_plain() -> list[str]:
    own = result("joint")
    shown = {"off, in widths | median": ".2f", "off, in widths | max": ".2f", "off, in errors | median": ".1f"}
    shown |= {"ratio of widths | median": ".2f", "ess of package | min": ".0f", "ess of plain | min": ".0f"}
    rows = [
        [row["parameter"], *(f"{row[key]:{form}}" for key, form in shown.items())] for row in own.rows("differences")
    ]
    head = ["parameter", "off, median", "off, largest", "in Monte Carlo errors", "ratio of widths"]
    head += ["smallest effective sample", "of the plain sampling"]
    return [
        "## Pooled recipes beside a plain sampling",
        text(
            f"""The recipes of a study and their population are sampled together, in coordinates that follow the
            hyperparameters. Beside it is NumPyro's NUTS on the same density, written out once more, in coordinates that
            do not ({own.measured}; {own.lines[0]}, cut at half of their train part, where they lean on each other
            most). {own.lines[2].capitalize()}. Quantiles at 5, 50 and 95% differ by this share of the width of the 90%
            interval:"""
        ),
        table(head, rows),
    ]


def gate() -> list[str]:
    own = result("gate")

    def count_and_share(row: dict[str, Any], what: str) -> str:
        return f"{row[what]:.0f}" + ("" if row[f"{what} wrong"] is None else f" ({row[f'{what} wrong']:.2f})")

    names = {"patience": "stop after five evaluations without such a gain"}
    rows = [
        [
            names.get(row["rule"], f"`gate`, both error rates {row['rule'].removeprefix('gate ')}"),
            count_and_share(row, "stop"),
            count_and_share(row, "go"),
            f"{row['unknown']:.0f}",
        ]
        for row in own.rows("the next compute")
    ]
    stated = [
        [row["p_gain"], f"{row['asked']:.0f}", f"{row['stated']:.2f}", f"{row['came']:.2f}"]
        for row in own.rows("chances stated")
    ]
    rules = {"halving": "stop the lower half", "median rule": "stop below the median of the others"}
    rules |= {"lowest quarter": "stop the lowest quarter", "patience": names["patience"]}

    def against_others(rule: str) -> str:
        return rules.get(rule, f'`gate(against="others")`, error rate {rule.removeprefix("gate ")}')

    leaders = [
        [
            against_others(row["rule"]),
            f"{row['stopped']:.0f} of {row['runs']:.0f}",
            f"{row['lost_leader']:.0f} of {row['rungs']:.0f}",
            f"{row['lost']:.4f}",
        ]
        for row in own.rows("the leader")
    ]
    alone = [
        [
            names.get(row["rule"], f"`gate`, both error rates {row['rule'].removeprefix('gate ')}"),
            f"{row['stopped']:.0f} of {row['runs']:.0f}",
            f"{row['saved']:.0%}",
            share(row["wrong"]),
            f"{row['lost']:.4f}",
        ]
        for row in own.rows("whole runs, alone")
    ]
    together = [
        [
            against_others(row["rule"]),
            f"{row['stopped']:.0f} of {row['runs']:.0f}",
            f"{row['saved']:.0%}",
            f"{row['lost_leader']:.0f} of {row['studies']:.0f}",
            f"{row['lost']:.4f}",
        ]
        for row in own.rows("whole runs, together")
    ]
    return [
        "## Whether a run should go on",
        text(
            f"""Runs of five studies are cut at a quarter to .7 of their length, and asked whether the next 15% of it
            add .01 ({own.measured}; {own.lines[0]}). Beside the number of answers stands the share that was wrong:"""
        ),
        table(["rule", "stop (wrong)", "go (wrong)", "unknown"], rows),
        text("The chance of such a gain as it was stated, and how often it came:"),
        table(["chance", "asked", "stated", "came"], stated),
        text(
            """All runs of a study cut at the same compute, and asked which of them may still lead at 1.6 times that
            compute. How many are stopped, how often the later leader is among them, and how much lower the best run
            that goes on ends:"""
        ),
        table(["rule", "stopped", "leader stopped", "reward lost"], leaders),
        text(
            """Whole runs: each rule is asked at each of these places in turn, and a run that it stops ends there. Saved
            is the compute of all runs that is not spent. Alone, with the share of the stopped runs that would have
            gained .01 until their end, and the mean reward that all runs lose:"""
        ),
        table(["rule", "stopped", "compute saved", "gained .01 later", "reward lost"], alone),
        text(
            """Together, until 1.6 times the last place, with the number of studies whose later leader is stopped, and
            how much lower the best run that goes on ends (compute saved and reward lost are means over studies):"""
        ),
        table(["rule", "stopped", "compute saved", "leader stopped", "reward lost"], together),
    ]


def plan() -> list[str]:
    own = result("plan")
    rules = {
        "nothing": "nothing is spent",
        "plan": "`plan`: half for each of the two most probable",
        "equal": "equal shares",
        "knowledge gradient": "the highest expected chance (knowledge gradient)",
        "leader": "all to the most probable",
        "halving": "equal shares, the lower half drops out",
    }
    parts = []
    for kind, what in (
        ("real", "Real runs, compared at their common end"),
        ("simulated", "Simulated runs, compared by ceilings"),
    ):
        beside = {row["rule"]: row for row in own.rows(f"{kind} runs, beside the plan")}
        rows = [
            [
                rules[row["rule"]],
                f"{row['right']:.2f}",
                f"{row['chance']:.2f}",
                "" if row["stated"] is None else f"{row['stated']:.2f}",
                f"{row['lost']:.4f}",
                ""
                if row["rule"] not in beside
                else f"{beside[row['rule']]['plan alone right']:.0f} to {beside[row['rule']]['rule alone right']:.0f}",
            ]
            for row in own.rows(f"{kind} runs")
        ]
        cases = own.rows(f"{kind} runs")[0]["cases"]
        parts += [
            text(f"{what} ({cases:.0f} cases):"),
            table(["rule", "right", "its chance then", "stated before", "reward lost", "plan alone right"], rows),
        ]
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for row in own.rows("by study"):
        scores.setdefault(row["study"], {})[row["rule"]] = row
    by_study = [
        [
            f"`{name}`" if "_" in name or name == "scalerl" else name,
            f"{of['plan']['cases']:.0f}",
            *(f"{of[rule]['right']:.2f} ({of[rule]['lost']:.4f})" for rule in rules),
        ]
        for name, of in scores.items()
    ]
    return [
        "## Which recipe gets the compute",
        text(
            f"""Up to five recipes whose runs are cut at the same compute get a quarter of the compute that all of them
            would need to reach the end of the shortest, in three rounds ({own.measured}; {listed(own.lines)}). Then the
            recipe that is most probably the best is named. Beside how often it was the best stand the mean chance that
            the posterior gave it, the chance that was stated before the first round, what the named recipe lacks of the
            best, and in how many cases the plan alone was right and the rule alone. Cases of a study share
            recipes (each simulated set has 12), so that they are no independent samples."""
        ),
        *parts,
        text(
            """The level of a real run at its end has the noise of that run, which the chances of a recipe do not
            foresee. By study, how often the best was named, and what was lost:"""
        ),
        table(["study", "cases", *rules.values()], by_study),
    ]


def _claims(row: dict[str, Any]) -> list[str]:
    ranges = (("0.5 to 0.7", "0.5"), ("0.7 to 0.9", "0.7"), ("0.9 to 1", "0.9"))
    return [f"{share(row[f'right of {low}'])} of {row[f'claims {of}']:.0f}" for of, low in ranges]


def ranks() -> list[str]:
    rows = []
    for name, what in (
        ("sbc", "recipes of one run"),
        ("sbc-runs", "[recipes of several runs](sbc-runs.png)"),
    ):
        own = result(name)
        cells = []
        for title in own.titles():
            found = own.rows(title)
            outside = sorted(
                (row for row in found if row["outside 95% band"] > 0), key=lambda row: -row["outside 95% band"]
            )
            cells.append(f"{len(outside)} of {len(found)}")
            if outside:
                cells[-1] += f", {outside[0]['quantity']} by {outside[0]['outside 95% band']:.3f}"
        fits = own.titles()[0].rpartition(": ")[2].removesuffix(" fits")
        rows.append([what, fits, *cells, own.measured])
    for law, what in (("power-law", "sets of sizes, power law"), ("ceiling", "sets of sizes, ceiling law")):
        own = result(f"sizes-sbc-{law}")
        cells = []
        for row in own.rows("ranks"):
            names = [] if row["quantities outside"] == "none" else row["quantities outside"].split(", ")
            cells.append(
                f"{len(names)} of {row['quantities']}" + "".join(f", {n.replace(' ', ' by ')}" for n in names[:1])
            )
        rows.append([what, str(own.rows("ranks")[0]["sets"]), *cells, own.measured])
    return [
        "## Simulation-based calibration (SBC)",
        text(
            """Data are drawn from the priors and fitted. If inference is right, every rank of the true value among the
            posterior draws is equally likely. Counted are quantities whose ranks leave their 95% band (some do by
            chance), with the largest distance from it. Controls, fitted with independent noise or as if runs were
            alike, must fail."""
        ),
        table(["drawn", "fits", "outside", "outside, control", "measured"], rows),
    ]


def verdicts() -> list[str]:
    own, before = result("verdicts"), result("verdicts-before")
    reach, shares = own.rows("by C_max / C_mid"), {row["what"]: row for row in own.rows("shares")}
    rows = [
        ["`IDENTIFIED`, earlier rules", *(share(row["IDENTIFIED"]) for row in before.rows("by C_max / C_mid"))],
        ["`IDENTIFIED`", *(share(row["IDENTIFIED"]) for row in reach)],
        ["`PRE_INFLECTION`", *(share(row["PRE_INFLECTION"]) for row in reach)],
        ["coverage if `IDENTIFIED` (runs)"]
        + [
            f"{row['covered_if_identified']:.2f} ({row['identified']:.0f})" if row["identified"] else ""
            for row in reach
        ],
    ]
    early = shares["not IDENTIFIED at C_max <= 0.7 C_mid"]
    good = next(row for what, row in shares.items() if what.startswith("IDENTIFIED at C_max >= 4"))
    covered = shares["A in the 90% interval if IDENTIFIED"]
    rules = own.rows("other rules")
    lax = next(row for row in rules if row["width"] == 1.2)
    advice = result("advice")
    forms, earlier = result("verdicts-forms"), result("verdicts-forms-before")
    kinds = [
        [
            kind["kind"].replace("_", " "),
            *(
                f"{row['IDENTIFIED']:.0f} ({'' if row['holds'] is None else format(row['holds'], '.2f')})".replace(
                    " ()", ""
                )
                for row in (earlier.row("by kind", kind=kind["kind"]), kind)
            ),
            *(f"{kind[verdict]:.0f}" for verdict in ("PRE_INFLECTION", "NOT_A_SIGMOID", "NO_RISE")),
        ]
        for kind in forms.rows("by kind")
    ]
    return [
        "## Verdicts: operating characteristics",
        text(
            f"""{own.lines[0].capitalize()} ({own.measured}), by how far they go past their midpoint ([by size of the
            noise](verdicts.png)); the rest is `NO_RISE`, `NOT_A_SIGMOID` or `NOT_CONVERGED`."""
        ),
        table(["C_max / C_mid", *(f"{row['reach']:g}" for row in reach)], rows),
        text(
            f"""Of {early["of"]} runs that stop at 0.7 C_mid or before, {early["share"]:.0%} are not `IDENTIFIED`; of
            {good["of"]} that reach 4 C_mid with 20 evaluations and noise .004, {good["share"]:.0%} are. Coverage of A
            over all `IDENTIFIED` runs is {covered["share"]:.3f} (95% interval {covered["lower"]:.3f} to
            {covered["upper"]:.3f}). The interval may be {rules[0]["width"]:g} times as wide as the rise so far; with
            {lax["width"]:g}, {lax["2 to 8"]:.0%} instead of {rules[0]["2 to 8"]:.0%} of the runs that reach 2 C_mid
            would be `IDENTIFIED`. Before: `{before.command}` at {before.when}."""
        ),
        text(
            f"""Other kinds of curve and noise (`{forms.command}`, {forms.when}; before: {earlier.when}): number of runs
            called `IDENTIFIED`, with the share of their 90% intervals of the ceiling that hold the noiseless curve at
            10 times the last compute, and the other verdicts."""
        ),
        table(
            ["kind", "`IDENTIFIED` before", "`IDENTIFIED`", "`PRE_INFLECTION`", "`NOT_A_SIGMOID`", "`NO_RISE`"], kinds
        ),
        text(
            f"""Advice on real runs cut short (`{advice.command}`, {advice.when}): the chance, stated at the cut, that
            the ceiling is identified at a multiple of the compute, and how often it was. {advice.lines[0]}."""
        ),
        table(
            ["multiple", "cuts", "stated", "came true", "Brier score"],
            [
                [f"{row['multiple']:g}", f"{row['cuts']:.0f}", *(f"{row[key]:.2f}" for key in KEYS)]
                for row in advice.rows("by multiple")
            ],
        ),
    ]


def seeds() -> list[str]:
    needed, left, halves, health = (result(f"seeds-{part}") for part in ("needed", "left-out", "halves", "health"))
    by_runs, called = needed.rows("identified"), needed.rows("called")
    wrong = max(value for row in called for key, value in row.items() if key.startswith("called the wrong way"))
    rows = [
        [f"difference {key.rpartition(' ')[2]} is called", *(f"{row[key]:.0%}" for row in called)]
        for key in called[0]
        if key.startswith("called |")
    ]
    rows.append(["median width of the interval of A", *(f"{row['median width of A']:.3f}" for row in by_runs)])
    methods = ("partial pooling", "complete pooling", "no pooling", "the same, wider spreads of C_mid and B")
    partial, complete, alone, wider = (left.row("pods_multigpu", method=method) for method in methods)
    said = []
    for pairs in ("conclusive pairs", "all pairs"):
        claims = [row for row in halves.rows(f"chances of ceilings, {pairs}") if row["claimed"] > 0.9]
        number = sum(row["answers"] for row in claims)
        stated, right = (sum(row[key] * row["answers"] for row in claims) / number for key in ("claimed", "right"))
        said.append(f"{right:.0%} of {number} answers for {pairs} (stated: {stated:.0%})")
    common = next(line for line in health.lines if "common to all runs" in line).rpartition(", ")[2]
    return [
        "## Several runs (seeds) of a recipe, and how many are needed",
        text(
            f"""Simulated recipes whose runs differ by about .01 in their ceilings ({needed.measured}): how often a true
            difference of ceilings is called, with a chance of .9 or more for the right recipe."""
        ),
        table(["runs of each recipe", *(str(row["runs"]) for row in called)], rows),
        text(
            f"""The wrong recipe is called in at most {wrong:.0%} of pairs. Runs of `pods_multigpu`, each left out and
            forecast from the others of its recipe ({left.measured}), have a CRPS of {partial["CRPS"]:.4f} if the
            between-run standard deviation is estimated, {wider["CRPS"]:.4f} if its prior is wider,
            {complete["CRPS"]:.4f} if it is 0, and {alone["CRPS"]:.4f} if the others are fitted one by one."""
        ),
        text(
            f"""Chances above .9 from five runs of each recipe of `pods_l40s_gsm8k` agree with the late averages of the
            other five in {" and in ".join(said)} ({halves.measured}); pairs that are not both `IDENTIFIED` are
            therefore called inconclusive. Errors common to all runs are
            {common.replace("the variance", "the residual variance")} ({health.measured}) and not modelled."""
        ),
    ]


def sizes() -> list[str]:
    own, answers = result("sizes-forecasts"), result("sizes-answers")
    tasks = list(dict.fromkeys(row["task"] for row in own.rows("by task")))
    peers = ("log-linear intercepts", "least squares")

    def of(law: str, task: str) -> dict[str, Any]:
        laws = peers if law == "least squares" else (law,)
        return next(row for row in own.rows("by task", task=task) if row["law"] in laws)

    laws = {"power law": "power law", "ceiling law": "ceiling", "least squares": "least squares"}
    rows = [
        [name, *(f"{row['crps']:.4f} ({row['in 90%']:.2f})" for row in (of(law, task) for task in tasks))]
        for name, law in laws.items()
    ]
    unseen = [
        f"{of('ceiling', task)['rmse']:.3f} against {of('power law', task)['rmse']:.3f} for {task.split()[1]}B"
        for task in tasks[:2]
    ]
    preferred = re.sub(r" \(.*?\)", "", own.lines[0]).replace("of the ceiling", "of the ceiling law")
    preferred = preferred[0].upper() + preferred[1:]
    crossovers = [re.search(r": (at \S+ \([^)]*\))", line).group(1) for line in answers.lines if " overtakes " in line]
    return [
        "## Laws across model sizes",
        text(
            f"""Data `qwen_math` ({own.measured}): a size in B is left out and forecast from the others, or all runs are
            forecast from their first part. CRPS, with the coverage in brackets; least squares fit ln(1 - pass rate):"""
        ),
        table(["", *tasks], rows),
        text(
            f"""{preferred}. The RMSE of ln(1 - pass rate) of the ceiling law is {listed(unseen)}. Use it for runs that
            have bent and for crossovers: 72B overtakes 32B {crossovers[0]} FLOPs by the power law, which cannot bend,
            and {crossovers[1]} by the ceiling law ({answers.measured})."""
        ),
    ]


def chances() -> list[str]:
    own = result("chances")
    z = {
        forecast: [r["z"] for r in own.rows("scores", forecast=forecast) if r["pairs"].startswith("conclusive")]
        for forecast in ("with the spread of runs", "spread left out")
    }
    spread, without = ([f"{value:.1f}" for value in sorted(values)] for values in z.values())
    return [
        "## Chances that one recipe's ceiling is higher",
        text(
            f"""Simulated pairs of `IDENTIFIED` recipes, one run each ({own.measured}). z is the Brier score minus its
            expectation if the stated chances are true, in standard deviations; above 2, chances are overconfident. For
            two kinds of pairs and two margins z is {listed(spread)} ([reliability](chances.png)). Without the
            between-run standard deviation, a lucky run counts as a better recipe, and z is {listed(without)}."""
        ),
    ]


def render() -> str:
    sections = (
        intro,
        futures,
        learning,
        several_studies,
        pooled_beside_plain,
        gate,
        plan,
        ranks,
        verdicts,
        seeds,
        sizes,
        chances,
    )
    return re.sub(r"(?m)^(## .*)\n\n", r"\1\n", "\n\n".join(part for section in sections for part in section())) + "\n"


def main(rendered: str, readme: Path, command: str) -> None:
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"python {command} [--check]")
    if not sys.argv[1:]:
        readme.write_text(rendered)
    elif readme.read_text() != rendered:
        sys.exit(f"{readme.name} differs from results/: run python {command}")


if __name__ == "__main__":
    main(render(), README, f"{FOLDER}render.py")
