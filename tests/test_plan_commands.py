"""The command line of the present protocol: run, show, cost, list, and what it refuses."""

import subprocess
import sys

from anneal_utils import benchmark
from anneal_utils.benchmark import report

import pytest
from small_plan import TEXT, evidence_of, plan_in


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small plan's file, and the folder of its results for two methods."""
    folder = tmp_path_factory.mktemp("commands")
    plan_in(folder)
    out = folder / "out"
    code = benchmark.main(arguments(folder, out))
    assert code == 0
    return folder, out


def arguments(folder, out, *more):
    return [
        *("run", "--plan", str(folder / "plan.toml"), "--problem", "bowl", "--out", str(out)),
        *("--schedule", "constant", "linear", "--cache", str(folder / "store"), *more),
    ]


def test_a_run_is_saved_shown_and_not_computed_again(done, capsys):
    folder, out = done
    assert sorted(path.suffix for path in out.iterdir()) == [".json", *[".parquet"] * 4]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert benchmark.main(arguments(folder, out)) == 0
    told = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "1 problem (bowl), sgd, horizon 1." in told and "annealing" in told
    assert benchmark.main(["show", "--out", str(out), "--horizon", "0.5"]) == 0
    assert "horizon 0.5" in capsys.readouterr().out


def test_results_of_another_plugin_or_mode_are_computed_anew(done, tmp_path, capsys):
    folder, out = done
    assert benchmark.main(arguments(folder, out, "--mode", "graph")) == 0
    assert not capsys.readouterr().out.startswith("0 runs computed")
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    assert benchmark.main(arguments(folder, out, "--plugin", str(plugin))) == 0
    facts = benchmark.load(out).provenance["bowl"]
    assert list(facts["plugins"]) == ["mine.py"] and facts["mode"] == "auto"


def test_what_a_plan_costs_and_what_there_is(tmp_path, capsys):
    plan_in(tmp_path)
    assert benchmark.main(["cost", "--plan", str(tmp_path / "plan.toml")]) == 0
    told = capsys.readouterr().out
    assert "bowl" in told and f"{3 * (4 * 25 + 10) + 16 + 2 * 25 + 10 + 16} runs" in told
    assert benchmark.main(["list"]) == 0
    assert f"version {benchmark.Plan.read().version}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, told",
    [
        (["--problem", "bowls"], "problem = 'bowls': must be one of"),
        (["--optimizer", "sdg"], "optimizer = 'sdg'"),
        (["--trials", "6"], "trials = 6: must be a power of two"),
        (["--horizon", "0"], "horizon = 0.0"),
        (["--schedule", "rex", "rex"], "schedules = ['rex', 'rex']: must not repeat"),
        (["--plan", "none.toml"], "there is no such file"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(given, told, capsys):
    assert benchmark.main(["run", *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0]


@pytest.mark.parametrize("written", [["--protocol", "1"], ["--protocol=1"]])
def test_the_first_editions_protocol_is_one_word_away(written, capsys):
    assert benchmark.main([*written, "list"]) == 0
    told = capsys.readouterr().out
    assert "profile quick" in told and "photograph" not in told
    with pytest.raises(SystemExit):
        benchmark.main(["run", "--protocol=3"])


def test_optimizers_that_the_contrasts_do_not_name_are_shown_all_the_same(tmp_path):
    other = TEXT.replace('optimizers = ["sgd"]\nfam', 'optimizers = ["adamw"]\nfam')
    plan = plan_in(tmp_path, other)
    told = report.text(evidence_of([[[0.3] * 4, [0.2] * 4]]), plan)
    assert "1 problem (p0), sgd" in told and "m1" in told
    assert "Primary contrasts" not in told  # none of its methods is there


def test_a_command_in_a_process_of_its_own(tmp_path):
    plan_in(tmp_path)
    ask = ["cost", "--plan", str(tmp_path / "plan.toml"), "--problem", "bowl"]
    done_ = subprocess.run(
        [sys.executable, "-m", "anneal_utils.benchmark", *ask], capture_output=True, text=True
    )
    assert done_.returncode == 0 and "bowl" in done_.stdout and not done_.stderr
