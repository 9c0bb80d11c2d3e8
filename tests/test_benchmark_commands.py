"""The benchmark's command line: one sentence for whatever is wrong."""

import re

from anneal_utils import problems, schedules
from anneal_utils.benchmark import first as benchmark

import pytest
from small_benchmark import ARGUMENTS, PLUGIN, assert_same, files

pytest_plugins = ["benchmark_fixtures"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--problem", "mnist"], r"problem = 'mnist': must be one of"),
        (["--problem", "digits_noisy:noise=2"], r"noise = 2"),
        (["--problem", "digits:depth=2"], r"knob = 'depth'"),
        (["--schedule", "cosinus"], r"schedule = 'cosinus': must be one of"),
        (["--schedule", "cosine:end"], r"knob = 'end': must be written"),
        (["--schedule", "cosine:endd=1"], r"knob = 'endd'"),
        (["--schedule", "cosine", "cosine"], r"schedules = .*must not repeat"),
        (["--schedule", "step:drops=100"], r"drops = 100"),
        (["--schedule", "cosine:end=0,0.1,0.2"], r"budget = 3: must be >= 9"),
        (["--schedule"], r"(?i)argument --schedule: expected at least one argument"),
        (["--optimizer", "sgdd"], r"optimizer = 'sgdd'"),
        (["--budget", "2"], r"budget = 2: must be a whole number >= 3"),
        (["--budget", "few"], r"(?i)argument --budget: invalid int value"),
        (["--seeds", "1"], r"seeds = 1"),
        (["--tuning-seeds", "0"], r"tuning_seeds = 0"),
        (["--horizon", "0"], r"horizon = 0"),
        (["--horizon", "nan"], r"horizon = nan"),
        (["--ratio", "1"], r"ratio = 1"),
        (["--extensions", "-1"], r"extensions = -1"),
        (["--peak", "0", "0.1", "0.2"], r"peaks = 0"),
        (["--peak", "0.1", "0.2"], r"peaks = .*at least three"),
        (["--jobs", "0"], r"jobs = 0"),
        (["--profile", "huge"], r"(?i)argument --profile: invalid choice: 'huge'"),
        (["--plugin", "nowhere.py"], r"plugin = 'nowhere.py': No such file"),
        (["--dask", "tcp://127.0.0.1:1"], r"No Dask scheduler answers at tcp://127.0.0.1:1"),
        (["--dask", "nonsense://x"], r"No Dask scheduler answers"),
        (["--fast"], r"(?i)unrecognized arguments: --fast"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, capsys, arguments, sentence):
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    base = ["run", *ARGUMENTS, *places]
    try:
        code = benchmark.main([*base, *arguments])
    except SystemExit as end:  # argparse
        code = end.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert len(said.err.splitlines()) == 1 and re.search(sentence, said.err), said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["1 / 0", "not python", "import no_such_module"])
def test_a_broken_plugin_is_one_sentence(tmp_path, capsys, text):
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN.replace("mine", "broken") + text)
    for _ in range(2):  # what it had registered is gone
        assert benchmark.main(["list", "--plugin", str(plugin)]) == 2
        assert re.match(r"plugin = 'broken.py': \w+Error: ", capsys.readouterr().err)
    assert "broken" not in schedules.names() and "bowl" not in problems.names()


def test_results_of_another_version_stay(reference, tmp_path, capsys):
    benchmark.save(reference[0], tmp_path)
    path = tmp_path / "provenance.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    before = files(tmp_path)
    cache = tmp_path.parent / "unused"
    calls = (["show"], ["run", *ARGUMENTS, "--cache", str(cache)])
    for call in calls:
        assert benchmark.main([*call, "--out", str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1 and "format 99" in said.err and not said.out
    with pytest.raises(ValueError, match="format 99"):
        benchmark.save(reference[0], tmp_path)
    assert files(tmp_path) == before and not cache.exists()


def test_altered_or_missing_results_are_noticed(reference, tmp_path, capsys):
    assert benchmark.main(["show", "--out", str(tmp_path)]) == 2
    assert "holds no benchmark results" in capsys.readouterr().err
    benchmark.save(reference[0], tmp_path)
    assert_same(benchmark.load(tmp_path), reference[0])
    report = tmp_path / "report.parquet"
    whole = report.read_bytes()
    for content in (whole[:-10], (tmp_path / "trials.parquet").read_bytes()):
        report.write_bytes(content)
        with pytest.raises(ValueError, match="report.parquet"):
            benchmark.load(tmp_path)
    report.unlink()
    with pytest.raises(ValueError, match="report.parquet is missing"):
        benchmark.load(tmp_path)


def test_show_prints_the_ranking_and_list_the_names(reference, tmp_path, capsys):
    benchmark.save(reference[0], tmp_path)
    assert benchmark.main(["show", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["schedule", "rank", "regret"]
    ranked = benchmark.ranking(reference[0])
    assert [line.split()[0] for line in lines[2:]] == list(ranked["schedule"])
    assert benchmark.main(["show", "--out", str(tmp_path), "--problem", "nothing"]) == 2
    assert "problem = 'nothing'" in capsys.readouterr().err
    assert benchmark.main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(
        name in said for name in [*benchmark.default_problems(), *schedules.names(), "momentum"]
    )


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        benchmark.main(["run", "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "examples:" in said
    for option in ("problem", "schedule", "optimizer", "budget", "seeds", "horizon", "jobs"):
        assert f"--{option}" in said
    assert "--dask" in said and "--out" in said and "--profile" in said
