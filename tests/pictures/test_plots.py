"""Plots hold what they are given: stars, areas, points above the line; and refuse to draw nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from thinslice.errors import UsageError
from thinslice.pictures import plots
from thinslice.pictures.plots import Bar, Circle, bars, case_scatter, paired_bars, score_over_time


def pixels(png: bytes) -> NDArray[np.float32]:
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]


def share(picture: NDArray[np.float32], colour: str) -> int:
    """Pixels of one colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(picture - wanted).max(axis=2) < 0.02).sum())


ROW = [Bar("cubic", 33.0, 1.2), Bar("ours", 35.0, 1.1, "*")]


def test_the_same_bars_give_the_same_bytes_and_a_star_shows() -> None:
    assert bars({"psnr": ROW, "ssim": ROW}) == bars({"psnr": ROW, "ssim": ROW})
    plain = [Bar(bar.label, bar.mean, bar.sd) for bar in ROW]
    assert bars({"psnr": ROW}) != bars({"psnr": plain})


def test_a_higher_bar_takes_more_ink() -> None:
    picture = pixels(bars({"psnr": [Bar("a", 30.0), Bar("b", 33.0)]}))
    middle = picture.shape[1] // 2
    low, high = (share(half, plots.COLOURS[0]) for half in (picture[:, :middle], picture[:, middle:]))
    assert 0 < 2 * low < high


def test_series_stand_together_in_colours_of_their_own() -> None:
    picture = pixels(paired_bars({"psnr": {"paired": ROW, "simulated": [Bar("cubic", 32.0), Bar("ours", 33.0)]}}))
    assert share(picture, plots.COLOURS[0]) > 500 and share(picture, plots.COLOURS[1]) > 500
    many = {f"series {n}": ROW for n in range(len(plots.COLOURS) + 1)}
    with pytest.raises(UsageError, match="distinct colours"):
        paired_bars({"psnr": many})


def test_lines_cross_the_panel_and_are_never_cut_off() -> None:
    series = {"psnr": {"paired": ROW, "simulated": [Bar("cubic", 32.0), Bar("ours", 33.0)]}}
    plain, lined = (pixels(paired_bars(series, lines=lines)) for lines in (None, {"psnr": {"linear": 31.0}}))
    assert share(lined, "#5c636d") > share(plain, "#5c636d") + 200
    # A line far below all bars widens the axis down to it.
    deep = pixels(paired_bars(series, lines={"psnr": {"linear": 20.0}}))
    assert share(deep, plots.COLOURS[0]) > 1.2 * share(lined, plots.COLOURS[0])


def test_the_area_of_a_circle_is_the_number_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, str | None]] = []

    def note(axis: object, x: object, y: object, s: float, **style: object) -> None:
        drawn.append((s, str(style["marker"]) if "marker" in style else None))

    monkeypatch.setattr("matplotlib.axes.Axes.scatter", note)
    score_over_time([Circle("a", 1.0, 33.0, 1_000_000), Circle("b", 2.0, 34.0, 3_000_000), Circle("c", 0.1, 32.0, 0)])
    (one, _), (three, _), (_, cross) = drawn
    assert three == pytest.approx(3 * one)
    assert cross == "x"
    drawn.clear()
    score_over_time([Circle("a", 1.0, 33.0, 100_000_000), Circle("b", 2.0, 34.0, 50_000_000)])
    assert drawn[0][0] == pytest.approx(plots.MAX_CIRCLE_POINTS2) == pytest.approx(2 * drawn[1][0])


def test_cases_of_identical_volumes_are_left_out_of_a_scatter() -> None:
    pairs = [(33.0, 34.0), (32.0, 31.0)]
    assert case_scatter("ours", {"cubic": [*pairs, (np.inf, np.inf)]}) == case_scatter("ours", {"cubic": pairs})
    assert len(pixels(case_scatter("ours", {f"m{n}": pairs for n in range(6)})).shape) == 3


def test_nothing_is_not_drawn() -> None:
    for call in (lambda: bars({}), lambda: bars({"psnr": []}), lambda: score_over_time([]), lambda: paired_bars({})):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(UsageError):
        case_scatter("ours", {"cubic": [(np.inf, np.inf)]})


def test_labels_are_shown_as_they_are() -> None:
    assert bars({"psnr": [Bar("$\\frac{broken$", 33.0)]})[1:4] == b"PNG"
    assert score_over_time([Circle("$x_$", 1.0, 33.0, 10)], device="a_$b")[1:4] == b"PNG"
