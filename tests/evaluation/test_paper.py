"""Published figures: every task has some, each with a source, and the table lines up."""

from c3dvideo.evaluation.paper import COMPACTNESS_POINTS, PUBLISHED, beside, comparison


def test_every_figure_is_a_percentage_with_a_source() -> None:
    for task, rows in PUBLISHED.items():
        assert rows, task
        for row in rows:
            assert row.where
            assert row.checked != row.source.endswith("as reported")
            assert all(0 < value <= 100 for value in row.values.values())


def test_the_headline_figures_of_the_paper() -> None:
    figures = {row.method: row.values for rows in PUBLISHED.values() for row in rows if row.checked}
    assert figures["C3D (1 net) + linear SVM"] == {"video@1": 82.3}
    assert figures["C3D, YUPENN"] == {"accuracy": 98.1}
    assert figures["C3D, Maryland"] == {"accuracy": 87.7}
    assert figures["C3D"] == {"accuracy": 22.3}
    assert COMPACTNESS_POINTS[10] == 0.528


def test_ours_stands_first_in_percent_and_only_rows_that_compare_follow() -> None:
    lines = comparison("recognition", {"video@1": 0.5}).splitlines()
    assert lines[0].split() == ["video@1", "source"]
    assert lines[1].split() == ["ours", "50.0", "this", "run"]
    assert not any("small network from scratch" in line for line in lines)
    assert len({line.index(word) for line in lines[2:] for word in ("Table", "the release's") if word in line}) == 1
    assert beside("scenes")[0]["values"] == {"accuracy": 96.2}
