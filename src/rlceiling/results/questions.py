"""`Questions`: what may be asked of the posteriors of many recipes; `Fits` adds how they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rlceiling.decisions import answer as answers
from rlceiling.decisions import chances as chance_questions
from rlceiling.decisions import forecast as forecasts
from rlceiling.decisions import gate as gates
from rlceiling.decisions import plan as plans
from rlceiling.decisions.chances import Chance
from rlceiling.decisions.gate import MAX_WRONG
from rlceiling.posterior.fit import Fit


class Questions(Mapping[str, Fit]):
    """Mapping from name to `Fit`, with the comparisons, forecasts and decisions of `Fits`."""

    def chance_higher(self, first: str, second: str, margin: float = 0.0, *, at: float | None = None) -> Chance:
        """Posterior probability ``P(A_first > A_second + margin)``, or ``P(R_first(at) > R_second(at) + margin)``.

        Posteriors of two recipes are independent, so every draw of one is compared with every draw of the other. Runs
        of one recipe, a run and its recipe, and recipes that were pooled (``rlceiling.fit(pool=True)``) have a joint
        posterior and are compared draw by draw.

        Parameters
        ----------
        first, second : str
            Recipes, or runs as ``recipe/run``.
        margin : float, default 0
            Smallest relevant difference, in the user's unit of reward.
        at : float, optional
            Compute at which the curves are compared, positive, in the unit of the runs. Default: their ceilings are
            compared.

        Returns
        -------
        Chance
            For ceilings conclusive where both are `IDENTIFIED`; at a compute also up to a multiple of the largest
            compute of each recipe (see `VerdictRules.max_ahead`). Otherwise conclusive only if the range that the data
            leave decides: an unfinished run has at least the level that it has reached.

        Raises
        ------
        DataError
            If the margin is not a finite number, the compute is not positive, a name is unknown, both names are the
            same, or the rewards of the two have different names or bounds.

        Notes
        -----
        Evaluation errors of two recipes are assumed independent. Where all evaluations use the same prompts at the same
        steps, the errors have a common part that cancels in the difference, and the probability is conservative (see
        ``benchmarks/calibration``).
        """
        return chance_questions.chance_higher(self, first, second, margin, at=at)

    def chance_equal(self, first: str, second: str, margin: float, *, at: float | None = None) -> Chance:
        """Posterior probability of practical equivalence, ``P(|A_first - A_second| <= margin)``, or of curves at `at`.

        Parameters
        ----------
        first, second, at
            As in `chance_higher`.
        margin : float
            Largest difference that does not count (half the width of the ROPE), positive, in the user's unit of reward.

        Returns
        -------
        Chance
            Conclusive where the data fix both recipes, as in `chance_higher`.

        Raises
        ------
        DataError
            As in `chance_higher`, and if the margin is not positive.

        References
        ----------
        Kruschke, "Rejecting or accepting parameter values in Bayesian estimation", Advances in Methods and Practices in
        Psychological Science 2018, doi 10.1177/2515245918771304 (region of practical equivalence, ROPE).
        """
        return chance_questions.chance_equal(self, first, second, margin, at=at)

    def chances(
        self, margin: float = 0.0, *, at: float | None = None, include_inconclusive: bool = False
    ) -> pd.DataFrame:
        """Square table of the posterior probabilities ``P(A_row > A_column + margin)``, or of curves at a compute.

        Parameters
        ----------
        margin : float, default 0
            Smallest relevant difference, in the user's unit of reward.
        at : float, optional
            Compute at which curves are compared, as in `chance_higher`. Default: ceilings are compared.
        include_inconclusive : bool, default False
            Include the probabilities of inconclusive pairs; by default these are NaN, as is the diagonal.

        Returns
        -------
        DataFrame
            Index and columns: names. A pair that the data decide although they do not fix both recipes has the end of
            the range that they leave (`Chance.lower` or `Chance.upper`).

        Raises
        ------
        DataError
            If the margin is not a finite number, the compute is not positive, or recipes have different rewards or
            bounds (with `at` also different units of compute).
        """
        return chance_questions.chances(self, margin, at=at, include_inconclusive=include_inconclusive)

    def rank(self, *, at: float | None = None, include_inconclusive: bool = False) -> pd.DataFrame:
        """Posterior probability that each recipe is the best one, and the distribution of its rank.

        Parameters
        ----------
        at : float, optional
            Compute at which curves are compared, as in `chance_higher`. Default: ceilings are compared.
        include_inconclusive : bool, default False
            Rank all recipes. By default only those are ranked, among themselves, which the data fix; the others have
            NaN.

        Returns
        -------
        DataFrame
            Index: name. Columns: ``p_best`` and its Monte Carlo standard error ``mcse``, ``mean_rank`` (1 is highest),
            ``rank_1`` ... ``rank_k`` (probabilities), ``lower`` and ``upper``, the range that the data leave of the
            probability to be the best of all (see `Chance`; `p_best` may lie outside, since it is among the recipes
            that the data fix), ``conclusive`` and ``reason``. Recipes are sorted by `p_best`. A single recipe that the
            data fix has no `p_best`, since there is nothing to compare it with.

        Raises
        ------
        DataError
            If the compute is not positive, or recipes cannot be compared, as in `chances`.
        """
        return chance_questions.rank(self, at=at, include_inconclusive=include_inconclusive)

    def best_at(self, compute: float | Sequence[float], *, include_inconclusive: bool = False) -> pd.DataFrame:
        """Posterior probability of each recipe to lead at each of several budgets.

        Parameters
        ----------
        compute : float or sequence of float
            Budgets: compute values, positive, in the unit of the runs.
        include_inconclusive : bool, default False
            Include recipes at computes that lie too far beyond their data (see `chance_higher`). By default the others
            are compared among themselves there, and these have NaN.

        Returns
        -------
        DataFrame
            Index: the compute. Columns: names.

        Raises
        ------
        DataError
            If a compute is not positive, or recipes cannot be compared, as in `chances`.
        """
        return chance_questions.best_at(self, compute, include_inconclusive=include_inconclusive)

    def answer(
        self, margin: float = 0.0, *, at: float | None = None, budget: float | None = None, prob: float = 0.9
    ) -> list[str]:
        """Summarise the fits in sentences, the most important first.

        Parameters
        ----------
        margin : float, default 0
            Smallest relevant difference between the best recipe and its closest rival, in the user's unit of reward.
        at : float, optional
            Compute at which the recipes are compared, positive, in the unit of the runs.
        budget : float, optional
            More compute that can be given to the recipes; a sentence says to which, see `plan`.
        prob : float, default 0.9
            Probability of the equal-tailed credible interval of the highest ceiling.

        Returns
        -------
        list of str
            One sentence each. With `at` the first one names the leader at that compute with its chance, and says
            whether the data decide who leads for good (all recipes whose chance of the highest ceiling may be .05 or
            more are `IDENTIFIED`) or which recipes keep it open; then come the closest rival there and the recipes that
            cannot be compared there. Then the recipe with the highest ceiling of those that can be compared, its
            ceiling, the comparison with its closest rival; with `budget`, which recipes get it; recipes that begin
            elsewhere than the others; advice for recipes whose ceiling is not identified; runs that differ from their
            siblings.

        Raises
        ------
        DataError
            If a compute is not positive, the margin is not finite, or `prob` is not between 0 and 1.
        """
        return answers.answer(self, margin, at=at, budget=budget, prob=prob)

    def gate(
        self,
        add: float,
        gain: float,
        *,
        against: str | None = None,
        at: float | None = None,
        max_wrong_stop: float = MAX_WRONG,
        max_wrong_go: float = MAX_WRONG,
        prob: float = 0.9,
    ) -> pd.DataFrame:
        """Decide for each run whether `add` more compute is worth it.

        ``stop`` is said if the run rises by at least `gain` with a probability of at most `max_wrong_stop`, and ``go``
        if it does so with a probability of at least ``1 - max_wrong_go``; between them the answer is ``unknown``. If
        `against` is given, ``stop`` is also said if the recipe ends above it with a probability of at most
        `max_wrong_stop`, whatever the data leave open (see `rlceiling.Chance`).

        Parameters
        ----------
        add : float
            Compute to be added to each run, positive, in the unit of the runs.
        gain : float
            Smallest rise of the reward that is worth it, positive, in the unit of the reward.
        against : str, optional
            Recipe that is to be surpassed, or ``"others"`` for the best of the others. Default: only the gain decides.
        at : float, optional
            Budget at which recipes are compared. Default: for good, by their ceilings.
        max_wrong_stop, max_wrong_go : float, default 0.1
            Accepted probabilities that a stop, or a go, is wrong.
        prob : float, default 0.9
            Probability of the equal-tailed credible interval of the rise.

        Returns
        -------
        DataFrame
            One row per run. Columns: ``recipe``, ``run``, the compute so far under its own name; ``p_gain``,
            ``gain_lower``, ``gain``, ``gain_upper`` (median and credible limits of the rise); ``p_above`` (chance to
            end above `against`; NaN unless the data fix both), ``above_lower`` and ``above_upper`` (the range of it
            that the data leave); ``width`` (width of the 90% interval of the recipe's ceiling, whatever `prob`) and
            ``width_then`` (its mean when the furthest run of the recipe has gone on by so much); ``decision`` and
            ``why``.

        Raises
        ------
        DataError
            If `add` or `gain` is not positive, an error rate is not between 0 and 0.5, `prob` is not between 0 and 1,
            there is no recipe `against`, or recipes have different units.
        """
        rates = {"max_wrong_stop": max_wrong_stop, "max_wrong_go": max_wrong_go}
        return gates.gate(self, add, gain, against=against, at=at, prob=prob, **rates)

    def plan(self, budget: float, *, at: float | None = None) -> pd.DataFrame:
        """Split compute over recipes so that the best one is named with a high chance.

        The two recipes that are most probably the best get half each. On replayed real and simulated runs this named
        the best recipe as often as the split with the highest expected value of information, and more often than equal
        shares (``benchmarks/calibration``). Ask again when a part of the compute is spent.

        Once it is spent, the recipe that is most probably the best is named. The chance that it is the best comes from
        simulated continuations of the furthest run of each recipe (pre-posterior analysis). It depends on the priors
        where the data leave the ceiling of a recipe open; `lower` and `upper` are what no prior can change. Draws of
        different recipes are taken to be independent.

        Parameters
        ----------
        budget : float
            Compute to be split, positive, in the unit of the runs.
        at : float, optional
            Compute at which recipes are compared. Default: for good, by their ceilings.

        Returns
        -------
        DataFrame
            Index: recipe, those that get most first. Columns: the compute so far under its own name; ``give``, the
            share of the budget; ``p_best`` (posterior probability to be the best, NaN if the recipe is not compared),
            ``lower`` and ``upper`` (the range of it that the data leave, see `rank`); ``sd`` and ``sd_then`` (standard
            deviation of the ceiling, or of the curve at the compute, now and expected after this share, in the unit of
            the reward); ``why``. The chance to name the best belongs to all recipes and stands in every row:
            ``p_named`` now, ``p_named_plan`` after this plan and ``p_named_equal`` after equal shares, each with a
            Monte Carlo error of about .01. Recipes that are NOT_CONVERGED or NOT_A_SIGMOID are not compared and get
            nothing. ``attrs["sentence"]`` is the plan in words.

        Raises
        ------
        DataError
            If the budget or the compute is not positive, or recipes have different units.

        References
        ----------
        Russo, "Simple Bayesian algorithms for best-arm identification", Operations Research 2020, arXiv 1602.08448
        (half of the effort for the two that are most probably the best, top-two sampling).
        """
        return plans.plan(self, budget, at=at)

    def forecast(self, compute: float | Sequence[float], prob: float = 0.9, *, of: str | None = None) -> pd.DataFrame:
        """Reward of the run that goes on, of each recipe, of a new run of it, or of each of its runs at a compute.

        Parameters
        ----------
        compute : float or sequence of float
            Compute values, positive, in the unit of the runs. Beyond the data the forecast is an extrapolation along
            the curve, with an error of its form that grows with the distance (see `SigmoidPriors.form_error`).
        prob : float, default 0.9
            Probability of the equal-tailed credible intervals.
        of : {"recipe", "new run", "runs"}, optional
            What to forecast: the curve of the recipe, around which its runs are distributed; the curve of a new run; or
            the curves of the existing runs, one row per run. The new evaluation (posterior predictive) belongs to a new
            run for "recipe" and "new run", and to the continued run for "runs". Default: for a recipe with several runs
            its curve, and for one with a single run the level of this run as it goes on from where it stands, which is
            its curve and the autocorrelated noise given its evaluations.

        Returns
        -------
        DataFrame
            One row per recipe (and run) and compute. Columns: ``recipe``, ``run`` for ``of="runs"``, ``of`` (by
            default: ``"run"`` or ``"recipe"``), the compute under its own name, ``mean``, ``lower``, ``upper`` of the
            curve or the level, ``new_mean``, ``new_lower``, ``new_upper`` of a new evaluation (unit of the reward), and
            the ``verdict``: the forecast of a recipe whose ceiling is not identified is wide and depends on the prior,
            and a forecast from chains that have not converged is invalid.

        Raises
        ------
        DataError
            If a compute is not positive and finite, `prob` is not between 0 and 1, or `of` is none of these values.
        """
        return forecasts.forecast(self, compute, prob, of=of)

    def compute_to_reach(self, target: float, prob: float = 0.9) -> pd.DataFrame:
        """Compute at which each recipe's curve reaches a reward, without the error of the form that forecasts include.

        Parameters
        ----------
        target : float
            Reward of the mean curve, strictly inside the bounds, in the user's unit.
        prob : float, default 0.9
            Probability of the equal-tailed credible interval.

        Returns
        -------
        DataFrame
            One row per recipe. Columns: the compute under its own name, ``lower`` and ``upper``: median and credible
            limits, infinite where the target is above the ceiling and 0 where the start is above the target;
            ``p_never``, the posterior probability that the ceiling lies below the target; ``supported``, whether the
            data support the answer, and the ``reason`` if they do not. If the ceiling is not identified, only a target
            that was reached within the data is supported. Where the chains have not converged, or the run does not
            follow a sigmoid, the numbers are NaN.

        Raises
        ------
        DataError
            If the target lies outside the bounds of a recipe, or `prob` is not between 0 and 1.
        """
        return forecasts.compute_to_reach(self, target, prob)
