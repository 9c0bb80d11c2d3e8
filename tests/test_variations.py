"""What contrasts hang on: a group, a problem, a scale, a budget; and how the report tells it."""

import dataclasses
import itertools

from anneal_utils import benchmark
from anneal_utils.benchmark import report

import numpy as np
import pytest
from small_plan import evidence_of, plan_in

GAIN = dict(name="gain", plus=[{"method": "m1"}], minus=[{"method": "m0"}])
GROUPS = ("exact", "images", "tabular")


def one_sided(factor=3.0, noise=0.02, problems=3, groups=GROUPS):
    """Results of which the first problem alone has an effect: m1 over m0."""
    cells = np.linspace(0.2, 0.4, 8)
    values = [[cells, cells * (factor if p == 0 else 1.0)] for p in range(problems)]
    return evidence_of(values, groups=groups, noise=noise, rng=np.random.default_rng(3))


def test_a_group_that_carries_the_whole_effect_is_seen():
    drawn = benchmark.drawn(one_sided(problems=6), best_of=4, draws=200)
    # The fourth problem is of the first one's group and has no effect.
    given = dict(margin=0.001)
    assert benchmark.table(drawn, [GAIN], **given)["verdict"][0] == "higher"
    table = benchmark.left_out(drawn, [GAIN], **given).set_index("without")
    assert table["verdict"].to_dict() == {
        "exact": "not told apart",
        "images": "higher",
        "tabular": "higher",
    }
    assert list(table.columns) == ["name", "percent", "low", "high", "verdict"]
    # Two groups weigh alike, and in one of them one problem of two has the effect.
    assert table["percent"]["images"] == pytest.approx(100 * (3**0.25 - 1), rel=0.1)
    assert abs(table["percent"]["exact"]) < 3


def test_without_a_part_is_the_table_of_what_is_left():
    drawn = benchmark.drawn(one_sided(), best_of=4, draws=100)
    more = [GAIN, dict(name="loss", plus=[{"method": "m0"}], minus=[{"method": "m1"}])]
    table = benchmark.left_out(drawn, more, by="problem", margin=0.05)
    assert list(table["name"]) == ["gain"] * 3 + ["loss"] * 3
    for without, rows in table.groupby("without"):
        rest = [f"p{p}" for p in range(3) if f"p{p}" != without]
        whole = benchmark.table(drawn, more, margin=0.05, problems=rest)
        columns = ["name", "percent", "low", "high", "verdict"]
        assert rows[columns].values.tolist() == whole[columns].values.tolist()
    words = table[table["name"] == "gain"].set_index("without")["verdict"]
    assert words["p1"] == words["p2"] == "higher" != words["p0"]


def test_what_was_measured_nowhere_else_has_no_row():
    drawn = benchmark.drawn(one_sided(problems=2), best_of=4, draws=20)
    own = drawn.values["p1", "sgd", 1.0]
    drawn.values["p1", "sgd", 1.0] = own.assign(m2=own["m0"])
    second = dict(name="second", plus=[{"method": "m2"}], minus=[{"method": "m0"}])
    table = benchmark.left_out(drawn, [GAIN, second], margin=0.05)
    assert list(zip(table["name"], table["without"], strict=True)) == [
        *[("gain", "exact"), ("gain", "images")],
        ("second", "exact"),
    ]
    alone = benchmark.drawn(one_sided(problems=1), best_of=4, draws=20)
    assert benchmark.left_out(alone, [GAIN], by="problem", margin=0.05).empty


def test_points_are_hundredths_of_what_there_was_to_learn():
    values = [[[0.4] * 4, [0.2] * 4], [[0.3] * 4, [0.25] * 4]]
    whole = evidence_of(values, groups=("a", "b"), chance=1.0)
    drawn = benchmark.drawn(whole, scale="learned", draws=50, best_of=2)
    (row,) = benchmark.learned(drawn, [GAIN]).to_dict("records")
    shares = [(0.2 - 0.4) / (1 - 0.2), (0.25 - 0.3) / (1 - 0.25)]
    assert row.pop("points") == pytest.approx(100 * np.mean(shares))
    assert row["low"] == row["high"] == pytest.approx(100 * np.mean(shares))
    assert row["verdict"] == "lower" and list(row) == ["name", "low", "high", "verdict"]


def test_points_are_judged_by_their_sign_alone():
    """An effect that is sure and too small to matter: as good in percent, lower in points."""
    whole = evidence_of([[[0.4] * 4, [0.398] * 4]], chance=1.0)
    logs, shares = (
        benchmark.drawn(whole, scale=scale, draws=50, best_of=2) for scale in ("log", "learned")
    )
    assert benchmark.table(logs, [GAIN], margin=0.05)["verdict"][0] == "as good"
    assert benchmark.learned(shares, [GAIN])["verdict"][0] == "lower"
    many = benchmark.learned(shares, [GAIN] * 20)  # 50 draws are not enough for Holm over 20
    assert set(many["verdict"]) == {"not told apart"} and many["high"].max() < 0


def test_bad_input_is_named():
    logs, shares = (
        benchmark.drawn(one_sided(), scale=scale, draws=5) for scale in ("log", "learned")
    )
    with pytest.raises(ValueError, match="by = 'family': must be one of"):
        benchmark.left_out(logs, [GAIN], by="family", margin=0.05)
    with pytest.raises(ValueError, match='must have the scale "log"'):
        benchmark.left_out(shares, [GAIN], margin=0.05)
    with pytest.raises(ValueError, match='must have the scale "learned"'):
        benchmark.learned(logs, [GAIN])


def section(told: str, title: str) -> list[str]:
    """The lines of a table of the report, its header first."""
    lines = told.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(title)]
    return list(itertools.takewhile(bool, lines[start + 1 :]))


def test_the_report_tells_what_a_contrast_hangs_on(tmp_path):
    plan = dataclasses.replace(plan_in(tmp_path), contrasts=(GAIN,))
    found = one_sided(problems=4)
    told = report.text(found, plan)
    header, row = section(told, "What they hang on")
    assert [f"no {group}" in header for group in GROUPS] == [True] * 3
    drawn = benchmark.drawn(found, best_of=4, draws=200)
    (whole,) = benchmark.table(drawn, [GAIN], margin=0.05)["percent"]
    groups = benchmark.left_out(drawn, [GAIN], margin=0.05).set_index("without")
    problems = benchmark.left_out(drawn, [GAIN], by="problem", margin=0.05)["percent"]
    assert groups["verdict"]["exact"] == "as good"
    assert row.split() == [
        *["gain", f"{whole:+.1f}", "higher", f"{groups['percent']['exact']:+.1f}", "as", "good"],
        *[f"{groups['percent'][name]:+.1f}" for name in GROUPS[1:]],
        *[f"{problems.min():+.1f}", "to", f"{problems.max():+.1f}", "1:", "p0"],
    ]
    (contrast,) = [line for line in section(told, "Primary contrasts")[1:] if "gain" in line]
    assert "higher, hangs on p0" in contrast
    header, row = section(report.text(found, plan, more=True), "Without one group, with intervals")
    cells = [
        f"{one['percent']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}]"
        for one in groups.to_dict("records")
    ]
    assert row.split() == ["gain", *f"{cells[0]} as good {' '.join(cells[1:])}".split()]


def test_the_report_reads_the_contrasts_otherwise(tmp_path):
    plan = dataclasses.replace(plan_in(tmp_path), contrasts=(GAIN,))
    found = one_sided()
    header, row = section(report.text(found, plan), "Read otherwise")
    assert "for a search of 2" in header and "for a search of 8" in header  # of 4 in the plan
    shares = benchmark.drawn(found, best_of=4, draws=200, scale="learned")
    (points,) = benchmark.learned(shares, [GAIN]).to_dict("records")
    expected = [f"{points['points']:+.1f}", f"[{points['low']:+.1f},", f"{points['high']:+.1f}]"]
    expected = ["gain", *expected, "higher"]
    for best_of in (2, 8):
        drawn = benchmark.drawn(found, best_of=best_of, draws=200)
        (other,) = benchmark.table(drawn, [GAIN], margin=0.05).to_dict("records")
        expected += [f"{other['percent']:+.1f}", f"[{other['low']:+.1f},", f"{other['high']:+.1f}]"]
    assert row.split() == expected


def test_the_report_of_one_problem_leaves_nothing_out(tmp_path):
    plan = dataclasses.replace(plan_in(tmp_path), contrasts=(GAIN,))
    header, row = section(report.text(one_sided(problems=1), plan), "What they hang on")
    assert header.split() == ["name", "all"] and row.split()[0] == "gain"


def test_the_command_shows_more(tmp_path, capsys):
    """The committed plan's contrasts between methods of results made by hand, in a folder."""
    names = {"m0": "linear", "m1": "constant"}
    found = evidence_of([[[0.2] * 4, [0.4, 0.3, 0.6, 0.8]], [[0.2] * 4, [0.2] * 4]], chance=1.0)
    tables = {
        name: getattr(found, name).assign(
            optimizer="adamw", schedule=getattr(found, name)["schedule"].map(names)
        )
        for name in ("trials", "report")
    }
    benchmark.save(dataclasses.replace(found, **tables), tmp_path)
    assert benchmark.main(["show", "--out", str(tmp_path)]) == 0
    short = capsys.readouterr().out
    assert benchmark.main(["show", "--out", str(tmp_path), "--more"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(short.rstrip()) and "Worst case" not in short
    cold = {"linear": "linear_cold", "constant": "constant_cold"}
    tables = {k: t.assign(schedule=t["schedule"].map(cold)) for k, t in tables.items()}
    benchmark.save(dataclasses.replace(found, **tables), tmp_path / "cold")
    assert benchmark.main(["show", "--out", str(tmp_path / "cold"), "--more"]) == 0
    assert "Decision" not in capsys.readouterr().out
    head, *rows = section(told, "Decision")
    assert "% above the best" in head and "Decision" not in short
    assert rows[0].split()[:6] == ["adamw", "any", "known", "yes", "2", "linear"]
    assert "10% [10%, 10%]" in rows[0]
    assert "Without one group, with intervals" not in short
    assert section(short, "What they hang on")[1].strip().startswith("annealing")
    rows = {row.split()[0]: row.split()[1:] for row in section(told, "Worst case")}
    assert rows["linear"][:2] == ["+0.0", "p0"] and rows["constant"][:3] == ["+50.0", "p0", "adamw"]
    head, *rows = [row.split() for row in section(told, "Expected loss of the best")]
    assert head == ["k", "1", "2", "4"]
    first = np.log([2, 1.5, 3, 4]).mean() / 2  # the other problem's is 0
    assert ["constant", f"{100 * np.expm1(first):+.1f}"] in [row[:2] for row in rows]
    rows = {row.split()[0]: row.split()[1:] for row in section(told, "Medians over problems")}
    # Sensitivity: on p0 0.525 - 0.3 of 0.8, on p1 nothing.
    assert rows["constant"] == ["0.50", f"{(0.525 - 0.3) / 0.8 / 2:.2f}"]
    rows = [row.split() for row in section(told, "Share of settings")]
    assert rows[0] == ["factor", "1.05", "1.10", "1.25", "2.00"]
    assert ["constant", "50%", "50%", "50%", "100%"] in rows
