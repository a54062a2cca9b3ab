"""Commands that ask about finished fits: chances, budgets, whether to go on, forecasts, compute to a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rlceiling.cli.options import (
    FitsArgument,
    Margin,
    Prob,
    Reading,
    Sampling,
    check_picture,
    compute_option,
    default,
    expand_options,
    fits_of,
)
from rlceiling.cli.output import AsJson, about, files_written, plain, print_json, square
from rlceiling.errors import DataError
from rlceiling.report.terminal import TextCell, show_chances, show_table

# JAX, matplotlib and the fits are imported by the commands that need them, so that help is shown at once.


@expand_options
def chance(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    first: Annotated[
        str | None,
        typer.Argument(metavar="A", help=f"A recipe, or a run of it as recipe/run. {default('all pairs')}"),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="The recipe or run that A is compared with.")
    ] = None,
    margin: Margin = 0.0,
    equal: Annotated[
        bool, typer.Option("--equal", help="Chance that the two differ by no more than the margin.")
    ] = False,
    at: Annotated[
        float | None,
        compute_option(f"Compute at which curves are compared, in the unit of the runs. {default('ceilings')}"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the posterior probability that recipe A is higher than recipe B: its ceiling, or its curve at a compute."""
    from rlceiling.decisions.chances import check_margin, check_pair
    from rlceiling.decisions.compared import Compared

    # Questions that cannot be answered are refused before sampling.
    check_margin(margin)
    Compared(at)
    asked: dict[str, Any] = {"margin": margin, "at": at}
    if first is None:
        if equal:
            raise DataError("--equal compares two recipes; name them.")
        fits = fits_of(source, reading, sampling, fewest=2, check=lambda runs: check_margin(margin, runs.reward_bounds))
        check_margin(margin, fits.units.bounds)
        if as_json:
            pairs, ranks = square(fits.chances(margin, at=at)), fits.rank(at=at)
            print_json("chance", asked, about(fits) | {"chances": pairs, "rank": ranks})
        else:
            show_chances(fits, margin, at)
        return
    if second is None:
        raise DataError(f"chance compares two recipes; name another one after {first!r}, or none for all pairs.")
    check_pair(first, second, margin, equal=equal)
    fits = fits_of(
        source, reading, sampling, (first, second), check=lambda runs: check_margin(margin, runs.reward_bounds)
    )
    answer = (fits.chance_equal if equal else fits.chance_higher)(first, second, margin, at=at)
    if as_json:
        pair = fits.select(*dict.fromkeys(fits.find(name)[0].name for name in (first, second)))
        method = "chance_equal" if equal else "chance_higher"
        names = {"first": first, "second": second, "equal": equal}
        print_json("chance", names | asked, about(pair) | {method: answer, "sentence": answer.sentence()})
        return
    typer.echo(str(answer))
    if answer.conclusive:
        typer.echo(answer.sentence())


@expand_options
def best(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    at: Annotated[list[float], compute_option("Budget, in the unit of the runs. May be repeated.")],
    margin: Margin = 0.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the chances (.png, .pdf, .svg).")] = None,
    prob: Prob = 0.9,
    as_json: AsJson = False,
) -> None:
    """Print which recipe leads at each budget, with which chance, and what is known for good."""
    from rlceiling.decisions.chances import check_margin
    from rlceiling.decisions.compared import Compared
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.text import as_typed, probability

    check_margin(margin)
    check_prob("best", prob)
    for budget in at:
        Compared(budget)
    if plot is not None:
        check_picture(plot)
    fits = fits_of(source, reading, sampling, fewest=2, check=lambda runs: check_margin(margin, runs.reward_bounds))
    check_margin(margin, fits.units.bounds)
    at = sorted(set(at))
    answer = fits.answer(margin, at=max(at), prob=prob)
    if plot is not None:
        from rlceiling.report.chance_plots import plot_best_at
        from rlceiling.report.style import figure_of

        figure_of(plot_best_at(fits)).savefig(plot)
    if as_json:
        unit = fits.units.compute
        ranks = [{unit: budget} | row for budget in at for row in plain(fits.rank(at=budget))]
        asked = {"at": at, "margin": margin, "prob": prob}
        print_json("best", asked, about(fits) | {"rank": ranks, "answer": answer} | files_written(plot))
        return
    table = fits.best_at(at)
    rows: list[dict[str, TextCell]] = [
        {
            "recipe": name,
            **{as_typed(budget): probability(p) for budget, p in zip(at, table[name], strict=True)},
            "verdict": fits[name].verdict.name,
        }
        for name in table.iloc[-1].sort_values(ascending=False, kind="stable").index
    ]
    typer.echo(f"chance to lead at a budget, in {fits.units.compute}; ? cannot be compared there yet\n")
    show_table(rows, [""] * len(rows))
    typer.echo()
    for sentence in answer:
        typer.echo(sentence)
    if plot is not None:
        typer.echo(f"wrote {plot}")


@expand_options
def gate(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    add: Annotated[float, compute_option("Compute to be added to each run, in the unit of the runs.")],
    gain: Annotated[float, typer.Option(metavar="M", help="Smallest rise of the reward that is worth it.")],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B", help=f"Recipe to be surpassed, or `others` for the best of them. {default('only the gain')}"
        ),
    ] = None,
    at: Annotated[float | None, compute_option(f"Budget at which recipes are compared. {default('for good')}")] = None,
    wrong_stop: Annotated[float, typer.Option(metavar="P", help="Accepted probability that a stop is wrong.")] = 0.1,
    wrong_go: Annotated[float, typer.Option(metavar="P", help="Accepted probability that a go is wrong.")] = 0.1,
    prob: Prob = 0.9,
    as_json: AsJson = False,
) -> None:
    """Decide for each run whether more compute is worth it: go, stop or unknown."""
    from rlceiling.decisions.compared import Compared
    from rlceiling.decisions.gate import check_against, check_gate
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.text import as_typed, in_words, interval, percent

    check_gate(add, gain, wrong_stop, wrong_go)
    check_prob("gate", prob)
    Compared(at)
    fits = fits_of(
        source,
        reading,
        sampling,
        fewest=1 if against is None else 2,
        check=lambda runs: check_against(against, runs.source, runs.recipes),
    )
    asked: dict[str, Any] = {"against": against, "at": at, "max_wrong_stop": wrong_stop, "max_wrong_go": wrong_go}
    table = fits.gate(add, gain, **asked, prob=prob)
    if as_json:
        print_json("gate", {"add": add, "gain": gain, **asked, "prob": prob}, about(fits) | {"gate": table})
        return
    several = any(len(fit.runs) > 1 for fit in fits.values())
    rows: list[dict[str, TextCell]] = [
        {
            "recipe": row["recipe"],
            **({"run": row["run"]} if several else {}),
            "rise": "-"
            if math.isnan(row["gain"])
            else interval(row["gain_lower"], row["gain"], row["gain_upper"], "{:+.3f}".format),
            "chance of that rise": in_words(row["p_gain"]),
            **({"chance to end above": _range(row)} if against is not None else {}),
            "decision": row["decision"],
            "verdict": fits[row["recipe"]].verdict.name,
        }
        for row in table.to_dict("records")
    ]
    unit = fits.units.compute
    typer.echo(f"{as_typed(add)} more {unit} for a rise of {gain:g}; rise: median and {percent(prob)} interval\n")
    show_table(rows, [""] * len(rows))
    for name, why in zip(table["recipe"], table["why"], strict=True):
        if not why.startswith("chance"):
            typer.echo(f"  {name}: {why}")


def _range(row: Mapping[Any, Any]) -> str:
    """Chance to end above a rival, or the range of it that the data leave."""
    from rlceiling.text import in_words

    low, high = (row[f"above_{end}"] for end in ("lower", "upper"))
    return in_words(row["p_above"]) if math.isnan(low) or not math.isnan(row["p_above"]) else f"{low:.2f} to {high:.2f}"


@expand_options
def plan(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    budget: Annotated[float, compute_option("Compute to be split over the recipes, in the unit of the runs.")],
    at: Annotated[float | None, compute_option(f"Budget at which recipes are compared. {default('for good')}")] = None,
    as_json: AsJson = False,
) -> None:
    """Split compute over recipes so that the best one is named with a high chance."""
    from rlceiling.decisions.compared import Compared
    from rlceiling.decisions.plan import check_plan
    from rlceiling.text import in_words, number

    check_plan(budget)
    Compared(at)
    fits = fits_of(source, reading, sampling, fewest=2)
    table = fits.plan(budget, at=at)
    if as_json:
        answers = {"plan": table, "sentence": table.attrs["sentence"]}
        print_json("plan", {"budget": budget, "at": at}, about(fits) | answers)
        return
    unit = fits.units.compute
    rows: list[dict[str, TextCell]] = [
        {
            "recipe": str(row["recipe"]),
            f"{unit} so far": number(row[unit]),
            "give": number(row["give"]),
            "chance to be the best": "-" if math.isnan(row["p_best"]) else in_words(row["p_best"]),
            "whatever the prior": f"{row['lower']:.2f} to {row['upper']:.2f}",
            "verdict": fits[str(row["recipe"])].verdict.name,
        }
        for row in table.reset_index().to_dict("records")
    ]
    typer.echo(f"{table.attrs['sentence']}\n")
    show_table(rows, [""] * len(rows))
    for name, why in table["why"].items():
        typer.echo(f"  {name}: {why}")


@expand_options
def forecast(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    at: Annotated[list[float], compute_option("Compute, in the unit of the runs. May be repeated.")],
    prob: Prob = 0.9,
    new_run: Annotated[bool, typer.Option("--new-run", help="Forecast one more run of each recipe.")] = False,
    each_run: Annotated[bool, typer.Option("--each-run", help="Forecast the curves of the runs in the data.")] = False,
    of_recipe: Annotated[bool, typer.Option("--of-recipe", help="Forecast the curve of each recipe.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forecast the reward at any compute, and a new evaluation: of a single run as it goes on, or of the recipe."""
    from rlceiling.decisions.forecast import check_compute
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.posterior.verdicts import Verdict
    from rlceiling.text import interval, number, percent

    # Questions that cannot be answered are refused before sampling.
    check_compute(at)
    check_prob("forecast", prob)
    asked = {"new run": new_run, "runs": each_run, "recipe": of_recipe}
    if sum(asked.values()) > 1:
        raise DataError("--new-run, --each-run and --of-recipe are different questions; ask one of them.")
    of = next((name for name, wanted in asked.items() if wanted), None)
    fits = fits_of(source, reading, sampling)
    table, units = fits.forecast(at, prob, of=of), fits.units
    if as_json:
        print_json("forecast", {"compute": at, "prob": prob, "of": of}, about(fits) | {"forecast": table})
        return

    def shown(row: Mapping[Any, Any], of: str = "") -> TextCell:
        if row["verdict"] == Verdict.NOT_CONVERGED.name:
            return "-"
        return interval(row[f"{of}lower"], row[f"{of}mean"], row[f"{of}upper"], units.show)

    rows: list[dict[str, TextCell]] = [
        {
            "recipe": row["recipe"],
            **({"run": row["run"]} if each_run else {}),
            units.compute: number(row[units.compute]),
            ("reward" if of is None else "curve"): shown(row),
            "new evaluation": shown(row, "new_"),
            "verdict": row["verdict"],
        }
        for row in table.to_dict("records")
    ]
    show_table(rows, [""] * len(rows))
    kinds = set(table["of"]) if of is None else set()
    said = {"run": "the run that goes on", "recipe": "the curve of the recipe"}
    whose = " or, where it has several runs, ".join(said[kind] for kind in ("run", "recipe") if kind in kinds)
    titles = {"new run": " of one more run", "runs": " of each run", "recipe": " of the recipe", None: f": {whose}"}
    typer.echo(f"\n{units.reward}{titles[of]}: mean and {percent(prob)} interval")


@expand_options
def reach(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    target: Annotated[float, typer.Option(metavar="R", help="The reward, in its own unit.")],
    prob: Prob = 0.9,
    as_json: AsJson = False,
) -> None:
    """Print the compute at which the curve of each recipe reaches a reward, and the chance that it never does."""
    from rlceiling.decisions.forecast import check_target
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.text import in_words, interval, number, percent

    check_prob("reach", prob)
    fits = fits_of(source, reading, sampling, check=lambda runs: check_target(target, runs.reward_bounds))
    table = fits.compute_to_reach(target, prob)
    if as_json:
        print_json("reach", {"target": target, "prob": prob}, about(fits) | {"compute_to_reach": table})
        return
    compute = fits.units.compute

    def shown(row: Mapping[Any, Any]) -> TextCell:
        return interval(row["lower"], row[compute], row["upper"], lambda c: "never" if math.isinf(c) else number(c))

    rows: list[dict[str, TextCell]] = [
        {
            "recipe": name,
            compute: shown(row) if row["supported"] else "?",
            "chance never to reach it": in_words(row["p_never"]) if row["supported"] else "?",
            "verdict": fits[name].verdict.name,
        }
        for name, row in zip(fits, table.to_dict("records"), strict=True)
    ]
    show_table(rows, [""] * len(rows))
    typer.echo(f"\n{compute} at which the curve reaches {fits.units.show(target)}: median and {percent(prob)} interval")
    for row in table.to_dict("records"):
        if not row["supported"]:
            typer.echo(f"  ? {row['reason']}")
