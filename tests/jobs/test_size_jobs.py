"""Laws across model sizes as jobs of a batch: manifests, keys, the store, failures and outputs."""

from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rlceiling as rl
from handmade import made_recipe
from law_jobs import law_job, stored_law
from manifests import LAW, MANIFEST, QUICK, SIZES, write_logs, write_sizes
from rlceiling.cli import app
from rlceiling.jobs import batch as module
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.job import Job, Label, RecipeJob, SizeJob, row_of
from rlceiling.jobs.manifest import Outputs, plan
from rlceiling.jobs.outputs import write_outputs
from rlceiling.posterior.files import netcdf_bytes
from rlceiling.settings import RECIPE_SAMPLER, SIZE_SAMPLER, SamplerSettings

NAME = "power law across params by flops"
OUTPUTS = Outputs(summary=True, draws=True, plots=True)
REPORTS_LAWS = pytest.mark.skipif(
    "sizes" not in inspect.signature(rl.write_report).parameters, reason="write_report takes no laws yet"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of sizes and a manifest with a law beside it."""
    write_sizes(tmp_path)
    (tmp_path / "jobs.toml").write_text(LAW)
    return tmp_path


def jobs_of(folder: Path, text: str = LAW) -> list[Job]:
    """Jobs of a manifest, all of whose sources can be read."""
    (folder / "jobs.toml").write_text(text)
    planned = plan(folder / "jobs.toml")
    assert planned.unreadable == []
    return planned.jobs


# Manifest -------------------------------------------------------------------------------------------------------------


def test_law_is_one_job_per_file(folder: Path) -> None:
    write_sizes(folder, "sizes2.csv", (0.5, 4.0))
    first, second = jobs_of(folder)
    assert isinstance(first, SizeJob)
    assert isinstance(second, SizeJob)
    assert [job.labels for job in (first, second)] == [(Label("sizes.csv"),), (Label("sizes2.csv"),)]
    assert (first.law, first.name, first.grouped.sizes) == ("power law", NAME, SIZES)
    assert second.grouped.sizes == (0.5, 4.0)
    assert first.sampler == SamplerSettings(2, 100, 100, 3, SIZE_SAMPLER.target_accept)


def test_recipe_and_compute_default_to_size_and_resource(folder: Path) -> None:
    """As of the command ``rlceiling sizes``; columns that are named are used."""
    (job,) = jobs_of(folder)
    assert isinstance(job, SizeJob)
    assert [run.recipe for own in job.grouped.runs for run in own] == [f"{size}" for size in SIZES]
    table = pd.read_csv(folder / "sizes.csv").assign(family="Qwen")
    table.to_csv(folder / "sizes.csv", index=False)
    named = LAW.replace('size = "params"', 'size = "params"\nrecipe = "family"\nrun = "params"\ncompute = "samples"')
    (job,) = jobs_of(folder, named)
    assert isinstance(job, SizeJob)
    assert {run.recipe for own in job.grouped.runs for run in own} == {"Qwen"}
    assert job.grouped.units.resource == "flops"


def test_resource_defaults_to_compute(folder: Path) -> None:
    (job,) = jobs_of(folder, LAW.replace('resource = "flops"', 'compute = "samples"'))
    assert job.name == "power law across params by samples"


def test_law_of_a_bundled_dataset(folder: Path) -> None:
    text = '[[source]]\ndataset = "qwen_math"\nlaw = "ceiling"\nsize = "model_size_b"\ndrop = ["Qwen2.5-72B"]\n'
    (job,) = jobs_of(folder, text)
    assert isinstance(job, SizeJob)
    assert (job.name, len(job.grouped.sizes)) == ("ceiling law across model_size_b by flops", 6)
    assert job.sampler == SIZE_SAMPLER


def test_sampler_settings_default_to_those_of_the_family(folder: Path) -> None:
    write_logs(folder)
    both = MANIFEST.replace(QUICK, "") + LAW.replace(QUICK, "")
    for extra, own in (("", {}), ("[sampler]\ndraws = 200\n", {"draws": 200})):
        found = {type(job): job.sampler for job in jobs_of(folder, both + extra)}
        assert found == {RecipeJob: replace(RECIPE_SAMPLER, **own), SizeJob: replace(SIZE_SAMPLER, **own)}


def test_priors_of_a_law(folder: Path) -> None:
    flat = 'N0 = {distribution = "LogNormal", loc = 1.0, scale = 3.0}'
    inline = LAW.replace('size = "params"', f'size = "params"\npriors = {{{flat}}}')
    table = LAW.replace("[sampler]", f"[source.priors]\n{flat}\n[sampler]")
    (default,), (first,), (second,) = (jobs_of(folder, text) for text in (LAW, inline, table))
    assert first.priors["N0"] == {"distribution": "LogNormal", "loc": 1.0, "scale": 3.0}
    assert {name for name in first.priors if first.priors[name] != default.priors[name]} == {"N0"}
    assert first.key == second.key != default.key


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"power-law"', '"line"', "jobs.toml, line 4: source.law ('line') is not one of 'power law', 'ceiling'; give"),
        ('size = "params"', "", "jobs.toml, line 4: a law needs the column of the model size; add one such as size ="),
        ('size = "params"', 'size = "params"\nshares = [0.5]', "line 6: source.shares is for recipes, and a law is"),
        ('size = "params"', 'size = "params"\ncut_compute = [1e18]', "line 6: source.cut_compute is for recipes, and"),
        (
            'law = "power-law"\n',
            "",
            "line 4: source.size belongs to a law across model sizes; add a law, or",
        ),
        ('size = "params"', 'size = "params"\npriors = {A = 3}', "line 6: source.priors: A is not a prior; there are"),
        (
            "[sampler]",
            "[source.priors]\nsigma_spread = 1\nN0 = 3\n[sampler]",
            "jobs.toml, line 10: source.priors: prior of sigma_spread is 1; give a NumPyro",
        ),
        (
            "[sampler]",
            '[source.priors]\n[[source]]\ndataset = "qwen_math"\nlaw = "linear"\n[sampler]',
            "jobs.toml, line 12: source.law ('linear') is not one of",
        ),
    ],
)
def test_mistakes_name_their_line(folder: Path, old: str, new: str, sentence: str) -> None:
    (folder / "jobs.toml").write_text(LAW.replace(old, new))
    with pytest.raises(rl.DataError) as error:
        plan(folder / "jobs.toml")
    assert sentence in str(error.value)


def test_law_that_cannot_be_fitted_is_reported_and_the_rest_is_planned(folder: Path) -> None:
    table = pd.read_csv(folder / "sizes.csv")
    table.rename(columns={"flops": "hours"}).to_csv(folder / "sizes-other.csv", index=False)
    table[(table["params"] > 1) | (table["flops"] < 5e17)].to_csv(folder / "sizes-short.csv", index=False)
    table.replace({"params": {4.0: "large"}}).to_csv(folder / "sizes-words.csv", index=False)
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert [job.labels for job in jobs] == [(Label("sizes.csv"),)]
    reasons = {one.label.source: (one.recipe, one.reason) for one in unreadable}
    assert reasons["sizes-other.csv"][0] == ""
    assert reasons["sizes-other.csv"][1].startswith("sizes-other.csv has no column 'flops'")
    assert reasons["sizes-short.csv"][0] == reasons["sizes-words.csv"][0] == NAME
    assert "size 0.5 has 2 distinct values of flops above 0 and a fit needs 4" in reasons["sizes-short.csv"][1]
    assert "'large'" in reasons["sizes-words.csv"][1]


def test_two_sources_that_the_store_could_not_tell_apart(folder: Path) -> None:
    second = LAW.replace(QUICK, "").replace("[[source]]", "[[source]]\nuntil = 5e19")
    (folder / "jobs.toml").write_text(second + LAW)
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert len(jobs) == 1
    (one,) = unreadable
    assert one.reason.startswith(f"an earlier source of the manifest also fits the {NAME} to sizes.csv, with other")
    assert len(jobs_of(folder, LAW.replace(QUICK, "") + LAW)) == 1  # the same source twice is one job
    other_law = LAW.replace(QUICK, "").replace("power-law", "ceiling")
    assert len(jobs_of(folder, other_law + LAW)) == 2


# Keys -----------------------------------------------------------------------------------------------------------------


def test_key_depends_on_evaluations_and_settings_alone(folder: Path) -> None:
    def key(text: str = LAW) -> str:
        (job,) = jobs_of(folder, text)
        return job.key

    before = key()
    assert key() == before
    (folder / "sizes.csv").rename(folder / "sizes-renamed.csv")
    assert key() == before
    text = (folder / "sizes-renamed.csv").read_text()
    (folder / "sizes-renamed.csv").write_text(f"{text}0.5,2e20,4e20,0.26\n")
    assert key() != before
    (folder / "sizes-renamed.csv").write_text(text.replace("0.5,", "0.6,"))
    assert key() != before
    (folder / "sizes-renamed.csv").write_text(text)
    assert key() == before
    changed = [("seed = 3", "seed = 4"), ("draws = 100", "draws = 101"), ("power-law", "ceiling")]
    changed += [('resource = "flops"', 'resource = "samples"'), ("[[source]]", "[[source]]\nuntil = 5e19")]
    keys = {key(LAW.replace(old, new)) for old, new in changed}
    assert len(keys | {before}) == len(changed) + 1
    same = LAW.replace("power-law", "power law").replace("[[source]]", "[[source]]\nuntil = 1e21")
    assert key(same) == before


# Store ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[SizeJob, rl.Store]:
    """The job of a law and a store that holds its posterior; tests do not change it."""
    folder = tmp_path_factory.mktemp("sizes")
    return law_job(folder), stored_law(folder / "store")


@pytest.fixture
def mixed(done: tuple[SizeJob, rl.Store], tmp_path: Path) -> tuple[list[Job], rl.Store]:
    """A copy of the store with a recipe of the same source, and the jobs of both."""
    job, store = done
    shutil.copytree(store.folder, tmp_path / "store")
    copy = rl.open_store(tmp_path / "store")
    fit, labels = made_recipe("grown", [0.6]), (Label("sizes.csv"),)
    sampler = SamplerSettings(**fit.settings.sampler())
    recipe = RecipeJob(labels=labels, runs=fit.runs, units=fit.units, priors=fit.priors.to_dict(), sampler=sampler)
    copy.put(recipe.key, netcdf_bytes(fit), row_of(fit, 0.1), labels, 1)
    return [job, recipe], copy


def put_again(store: rl.Store, key: str, *, law: str, source: str, batch: int = 1) -> None:
    """Put a stored posterior of a law into the store once more, as that of another law or source."""
    sidecar = json.loads(store._path(key).with_suffix(".json").read_text())
    row = sidecar["row"] | {"family": law, "recipe": sidecar["row"]["recipe"].replace("power law", law)}
    store.put("ff" * 16, store._path(key).read_bytes(), row, [Label(source)], batch)


def test_stored_posterior_equals_that_of_fit_sizes(done: tuple[SizeJob, rl.Store]) -> None:
    _, store = done
    runs = rl.read_runs(store.folder.parent / "sizes.csv", compute="flops", reward="pass_rate", recipe="params")
    sizes = rl.fit_sizes(runs, "params", "flops", chains=2, tune=100, draws=100, seed=3, progress=False)
    stored = store.sizes()
    assert isinstance(stored, rl.Sizes)
    assert (stored.settings, stored.sizes, stored.units) == (sizes.settings, sizes.sizes, sizes.units)
    for draws, own in ((stored.draws, sizes.draws), (stored.unit_draws, sizes.unit_draws)):
        assert list(draws) == list(own)
        for name, values in draws.items():
            np.testing.assert_array_equal(values, own[name])
    assert len(stored.forecast(144.0, [1e21])) == 1


def test_stored_law_is_not_fitted_again(mixed: tuple[list[Job], rl.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    (job, _), store = mixed
    monkeypatch.setattr(module, "fit_jobs", lambda jobs: pytest.fail("a job was fitted again"))
    assert run_batch([job], store).n_cached == 1
    renamed = replace(job, labels=(Label("renamed.csv"),))
    run_batch([renamed], store)
    assert set(store.index().loc[job.key, "source"]) == {"sizes.csv", "renamed.csv"}
    assert store.sizes("renamed.csv").law == store.sizes("sizes.csv", "power-law").law == "power law"


def test_index_has_a_row_of_a_law(mixed: tuple[list[Job], rl.Store]) -> None:
    (job, recipe), store = mixed
    table = store.index()
    assert list(table.columns) == [
        *["source", "share", "cut_compute", "batch", "family", "recipe", "largest_compute", "runs", "evaluations"],
        *["compute", "reward", "A", "A_lower", "A_upper", "B", "B_lower", "B_upper", "C_mid", "C_mid_lower"],
        *[
            "C_mid_upper",
            "r_hat",
            "ess_bulk",
            "ess_tail",
            "divergences",
            "verdict",
            "reasons",
            "advice",
            "seconds",
            "fitted_at",
        ],
    ]
    law, own = table.loc[job.key], table.loc[recipe.key]
    sizes = store.sizes()
    assert (law["family"], law["recipe"], law["source"]) == ("power law", NAME, "sizes.csv")
    assert (law["compute"], law["reward"], law["largest_compute"]) == ("flops", "pass_rate", 1e20)
    assert (law["runs"], law["evaluations"], law["verdict"]) == (5, 40, sizes.verdict.name)
    assert (law["r_hat"], law["ess_bulk"]) == (sizes.convergence.r_hat, sizes.convergence.ess_bulk)
    assert np.isnan(law[["A", "A_lower", "B_upper", "C_mid"]].to_numpy(float)).all()
    assert (own["family"], own["recipe"]) == ("sigmoid", "grown")
    assert own["A"] == store.fit(recipe.key).interval("A")[1]
    store.write_index()
    parquet = pd.read_parquet(store.folder / "index.parquet").set_index("key")
    pd.testing.assert_frame_equal(parquet, table, check_dtype=False)


def test_index_of_laws_alone_has_numeric_columns(done: tuple[SizeJob, rl.Store]) -> None:
    table = done[1].index()
    assert len(table) == 1
    assert {str(table[name].dtype) for name in ("A", "B_lower", "C_mid_upper")} == {"float64"}


def test_sidecars_of_recipes_have_the_form_of_older_versions(mixed: tuple[list[Job], rl.Store]) -> None:
    """Stores that were written before laws could be jobs are read as they are, since nothing in them has changed."""
    (_, recipe), store = mixed
    sidecar = json.loads(store._path(recipe.key).with_suffix(".json").read_text())
    assert list(sidecar) == ["row", "bytes", "sha256", "labels"]
    assert list(sidecar["row"]) == [
        *["recipe", "largest_compute", "runs", "evaluations", "compute", "reward", "A", "A_lower", "A_upper"],
        *["B", "B_lower", "B_upper", "C_mid", "C_mid_lower", "C_mid_upper", "r_hat", "ess_bulk", "ess_tail"],
        *["divergences", "verdict", "reasons", "advice", "seconds", "fitted_at"],
    ]
    assert sidecar["labels"] == [["sizes.csv", 1.0, None, 1]]
    assert json.loads((store.folder / "store.json").read_text()) == {"schema": 1}


def test_fits_and_growth_leave_laws_out(mixed: tuple[list[Job], rl.Store], done: tuple[SizeJob, rl.Store]) -> None:
    _, store = mixed
    assert list(store.fits()) == ["grown"]
    assert store.growth("sizes.csv").recipes == ["grown"]
    with pytest.raises(rl.DataError, match="has no such posterior of a recipe"):
        done[1].fits()
    with pytest.raises(rl.DataError, match=r"has no posterior of 'sizes.csv' without a cut"):
        done[1].growth("sizes.csv")


def test_fit_refuses_the_key_of_a_law(mixed: tuple[list[Job], rl.Store]) -> None:
    (job, recipe), store = mixed
    with pytest.raises(rl.DataError, match=rf"{job.key} is the posterior of a law \({NAME}\); read it with sizes"):
        store.fit(job.key)
    with pytest.raises(rl.DataError, match="holds the posterior of a recipe and not of a law across sizes"):
        store.read_sizes(recipe.key)


def test_sizes_names_what_there_is_where_it_cannot_choose(mixed: tuple[list[Job], rl.Store], tmp_path: Path) -> None:
    (job, _), store = mixed
    put_again(store, job.key, law="ceiling", source="sizes.csv")
    with pytest.raises(rl.DataError, match=r"has 2 laws across model sizes: ceiling across .*\(sizes.csv\), power law"):
        store.sizes()
    with pytest.raises(rl.DataError, match=r"has 2 laws across model sizes with source 'sizes.csv': .* choose one by"):
        store.sizes("sizes.csv")
    assert store.sizes(law="power law").law == "power law"
    with pytest.raises(rl.DataError, match=r"with source 'b.csv' with law 'ceiling'; it has: ceiling across"):
        store.sizes("b.csv", "ceiling")
    with pytest.raises(rl.DataError, match="has no law across model sizes; add a source with a law to the manifest"):
        rl.open_store(tmp_path / "empty", create=True).sizes()


def test_sizes_reads_the_posterior_of_the_last_batch(mixed: tuple[list[Job], rl.Store]) -> None:
    (job, _), store = mixed
    put_again(store, job.key, law="power law", source="sizes.csv", batch=2)
    store._path("ff" * 16).write_bytes(b"")
    with pytest.raises(rl.DataError, match=f"has no complete posterior {'ff' * 16}; run the batch again"):
        store.sizes()
    store.relabel(job.key, [Label("sizes.csv")], 3)
    assert store.sizes().evaluations == 40


# The command and its outputs ------------------------------------------------------------------------------------------


def test_command_reports_failures_and_goes_on(done: tuple[SizeJob, rl.Store], tmp_path: Path) -> None:
    _, full = done
    write_sizes(tmp_path)
    pd.read_csv(tmp_path / "sizes.csv").replace({"params": {4.0: -4.0}}).to_csv(tmp_path / "sizes-bad.csv", index=False)
    (tmp_path / "jobs.toml").write_text(LAW)
    arguments = ["batch", str(tmp_path / "jobs.toml"), "--store", str(tmp_path / "store")]
    shutil.copytree(full.folder, tmp_path / "store")
    dry = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert dry.stdout.splitlines()[0] == "1 job: 1 in the store, 0 to be fitted"
    assert "is not a model size" in dry.stdout
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stdout.startswith("1 of 2 jobs done, 1 failed\n")
    assert f"failed: {NAME}: sizes-bad.csv, column 'params': '-4.0' " in result.stdout
    (failure,) = rl.open_store(tmp_path / "store").failures().to_dict("records")
    assert (failure["source"], failure["recipe"]) == ("sizes-bad.csv", NAME)


def test_law_that_raises_is_recorded_as_failed(done: tuple[SizeJob, rl.Store], tmp_path: Path) -> None:
    job, _ = done
    store = rl.open_store(tmp_path / "store", create=True)
    progress = run_batch([replace(job, priors={"N0": 3.0})], store)
    assert (progress.done, progress.failed) == (0, 1)
    assert list(store.failures()["reason"]) == [
        "prior of N0 is 3.0; give a NumPyro distribution, such as numpyro.distributions.LogNormal(0, 1)"
    ]


def test_outputs_of_recipes_and_laws(mixed: tuple[list[Job], rl.Store]) -> None:
    jobs, store = mixed
    said = list(write_outputs(OUTPUTS, jobs, store))
    folder = store.folder
    assert said == [
        *[f"wrote {folder / name}" for name in ("summary.csv", "draws.parquet")],
        f"drew 2 new pictures of 2 in {folder / 'plots'}",
    ]
    summary = pd.read_csv(folder / "summary.csv")
    assert dict(zip(summary["recipe"], summary["family"], strict=True)) == {"grown": "sigmoid", NAME: "power law"}
    assert set(pd.read_parquet(folder / "draws.parquet")["recipe"]) == {"grown"}
    assert sorted(path.name.split(".")[-3] for path in (folder / "plots").glob("*.png")) == ["curve", "law"]
    assert list(write_outputs(Outputs(plots=True), jobs, store)) == [f"drew 0 new pictures of 2 in {folder / 'plots'}"]


def test_no_draws_of_laws_alone(mixed: tuple[list[Job], rl.Store]) -> None:
    (job, _), store = mixed
    (said,) = write_outputs(Outputs(draws=True), [job], store)
    assert said.startswith("no draws.parquet: it holds draws of recipes, and the manifest names only laws;")
    assert not (store.folder / "draws.parquet").exists()


@REPORTS_LAWS
@pytest.mark.parametrize("both", [True, False])
def test_report_has_laws(mixed: tuple[list[Job], rl.Store], both: bool) -> None:
    jobs, store = mixed
    said = list(write_outputs(Outputs(report=True), jobs if both else jobs[:1], store))
    assert said == [f"wrote {store.folder / 'report.html'}"]
    page = (store.folder / "report.html").read_text(encoding="utf-8")
    assert store.sizes().sentence() in page.replace("&#39;", "'")
    assert ("grown" in page) == both
