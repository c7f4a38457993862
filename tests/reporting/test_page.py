"""The page and its figures: nothing fetched from elsewhere, text escaped, the data where they belong."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from score_sde.reporting import figures
from score_sde.reporting.page import Section, Table, page
from score_sde.reporting.records import Likelihoods, curves, likelihoods, log
from score_sde.reporting.sections import likelihood, training, visible


class Reader(HTMLParser):
    """Every attribute that a browser may fetch, and the ids."""

    def __init__(self):
        super().__init__()
        self.fetched, self.ids, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.fetched += [found[name] for name in ("src", "href", "srcset", "data", "action") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_a_page_fetches_nothing_and_escapes_what_it_is_told():
    sections = [
        Section("A <b> & c", "caption <script>", "a", b"\x89PNG bytes"),
        Section("No figure", "why", table=Table(("h",), [("<td>",), ("x",)], frozenset({1}))),
    ]
    html = page("title <x>", {"run": "a&b"}, sections, {"Config": Table(("field",), [("'<'",)])})
    reader = read(html)
    assert [r for r in reader.fetched if not r.startswith("#")] == [
        "data:image/png;base64," + base64.b64encode(b"\x89PNG bytes").decode()
    ]
    assert {r[1:] for r in reader.fetched if r.startswith("#")} == set(reader.ids)
    for text in ("A &lt;b&gt; &amp; c", "caption &lt;script&gt;", "a&amp;b", "&lt;td&gt;", "<tr class=changed>"):
        assert text in html
    assert "http" not in html
    assert "@import" not in html
    assert "url(" not in html


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_distances_are_drawn_against_both_costs():
    points = [figures.Point(5, 0.001, 3.0, 0.1), figures.Point(50, 0.01, 0.4, 0.5)]
    figure = figures.distances({"euler": points}, {"held-out": 0.3})
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[5, 3.0], [50, 0.4]])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[1, 3.0], [10, 0.4]])
    bars = left.collections[0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[2.9, 3.1], [0.04, 0.9]])
    assert size(figures.png(figure))[0] == round(figures.WIDTH * figures.DPI)


def test_noise_levels_are_drawn_against_time_and_log_snr():
    t, log_snr = np.array([1.0, 0.5, 0.1]), np.array([-8.0, -1.0, 4.0])
    estimate = lambda v: (np.array(v), np.full(3, 0.01))
    figure = figures.noise_levels(t, log_snr, estimate([1, 0.8, 0.2]), estimate([0, 0.2, 0.8]), estimate([1, 1, 1]))
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), np.stack([t, [1, 0.8, 0.2]], 1))
    assert any(np.array_equal(line.get_xdata(), log_snr) for line in right.lines)
    assert size(figures.png(figure))[0] == round(figures.WIDTH * figures.DPI)


def test_samples_stand_in_their_cells():
    white, black = np.full((4, 8), 255, np.uint8), np.zeros((4, 8), np.uint8)
    figure = figures.samples(
        {"a": {5: figures.Cell(white, 5)}, "b": {5: figures.Cell(black, 4), 10: figures.Cell(white, 10)}}, (5, 10)
    )
    shown = [[image.get_array() for image in axes.images] for axes in figure.axes]
    assert [len(images) for images in shown] == [1, 0, 1, 1]
    np.testing.assert_array_equal(shown[2][0], black)
    assert [axes.get_title() for axes in figure.axes] == ["5 evaluations", "", "4 evaluations", "10 evaluations"]


def test_states_become_bytes():
    """The limits are black and white, the middle grey; two channels show the first, four the first three."""
    x = np.linspace(-4, 4, 5).reshape(5, 1, 1)
    np.testing.assert_array_equal(visible(x, 2.0, True)[:, 0], [0, 0, 128, 255, 255])
    np.testing.assert_array_equal(visible((x + 1) / 2, 2.0, False), visible(x, 2.0, True))
    assert visible(np.zeros((3, 3, 2)), 1.0, True).shape == (3, 3)
    assert visible(np.zeros((3, 3, 4)), 1.0, True).shape == (3, 3, 3)


def test_curves_of_a_log_that_was_cut_off(tmp_path):
    lines = ['{"step": 5, "loss": 2.0, "loss_by_t": [1, null], "gradient_norm": null}']
    lines += ['{"step": 10, "loss": 0.5, "held_out_loss_raw": 0.75, "gradient_norm": 3.0}', '{"step": 15, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    found = curves(tmp_path / "metrics.jsonl")
    assert {name: (steps.tolist(), values.tolist()) for name, (steps, values) in found.items()} == {
        "loss": ([5, 10], [2.0, 0.5]),
        "held_out_loss_raw": ([10], [0.75]),
        "gradient_norm": ([10], [3.0]),
    }
    section = training(log(tmp_path / "metrics.jsonl"))
    assert "from 2 at step 5 to 0.5 at step 10" in section.caption
    assert "held_out_loss_raw ends at 0.75" in section.caption
    assert section.png
    assert "No metrics.jsonl" in training(log(tmp_path / "nowhere.jsonl")).caption


def test_likelihoods_are_read_where_they_are(tmp_path):
    header = "index,bits_per_dim,standard_error,bound,bound_standard_error,evaluations\n"
    (tmp_path / "per_image.csv").write_text(header + "0,1.5,0.1,,,80\n1,2.5,0.1,,,80\n")
    found = likelihoods(tmp_path)
    assert (found.values.tolist(), found.bound, found.unit) == ([1.5, 2.5], None, "bits")
    (tmp_path / "per_image.csv").write_text(header + "0,1.5,0.1,2.0,0.1,80\n1,2.5,0.1,3.0,0.1,80\n")
    section = likelihood(likelihoods(tmp_path), "")
    assert "mean 2.000 ± 0.500, from 1.50 to 2.50" in section.caption
    assert "bound of the reverse SDE, another model of the same score, is 2.500" in section.caption
    axes = figures.likelihood(*found[:3]).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 2
    assert likelihoods(tmp_path / "nowhere") is None


def test_without_likelihoods_the_command_is_named():
    section = likelihood(None, "python launch.py --config mine.py --workdir x")
    assert "python launch.py --config mine.py --workdir x --mode likelihood" in section.caption
    assert section.png == b""
    assert likelihood(Likelihoods(np.array([1.0]), None), "").png
