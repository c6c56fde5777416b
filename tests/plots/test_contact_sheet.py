"""Contact sheets keep the panels of an image together and say whose they are."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from cvtrain.plots import figures
from cvtrain.plots.figures import draw_contact_sheet


def panels(*captions, size=(30, 40)):
    return [(np.full((*size, 3), 100, np.uint8), caption) for caption in captions]


def laid_out(figure):
    """The figure with everything where `figures.save` draws it, so that texts can be measured."""
    figure.set_dpi(120)
    FigureCanvasAgg(figure).draw()
    return figure


def shown(figure):
    """The captions of each row of the sheet, from left to right."""
    used = [axes for axes in figure.axes if axes.images]
    rows = sorted({axes.get_subplotspec().rowspan.start for axes in used})
    return [
        [axes.get_xlabel() for axes in used if axes.get_subplotspec().rowspan.start == row]
        for row in rows
    ]


def test_the_panels_of_an_image_stand_side_by_side():
    groups = [panels("a", "a1"), panels("b", "b1"), panels("c", "c1"), panels("d", "d1")]
    figure = draw_contact_sheet(groups)
    assert shown(figure) == [["a", "a1", "b", "b1", "c", "c1"], ["d", "d1"]]


def test_no_image_is_split_between_rows_or_left_out():
    lengths = [2, 3, 2, 6, 2, 2, 3, 2, 5]
    groups = [panels(*(f"{i}.{j}" for j in range(n))) for i, n in enumerate(lengths)]
    rows = shown(draw_contact_sheet(groups))
    assert all(len(row) <= 6 for row in rows)
    assert sorted(name for row in rows for name in row) == sorted(
        caption for group in groups for _, caption in group
    )
    for group in groups:
        captions = [caption for _, caption in group]
        assert any(
            row[i : i + len(captions)] == captions for row in rows for i in range(len(row))
        ), captions


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (240, 20), (20, 240)])
def test_a_sheet_of_any_size_shows_its_pixels_and_cuts_no_caption(size, tmp_path):
    caption = "$x^" + "long_name" * 9 + "\ntrue class: \x1b[31m\udce9 猫" + "y" * 40
    figure = draw_contact_sheet([panels(caption, caption, size=size)])
    figures.save(figure, tmp_path / "sheet.png")
    width, height = laid_out(figure).bbox.size
    for axes in figure.axes:
        for image in axes.images:
            np.testing.assert_array_equal(image.get_array().shape, (*size, 3))
    for text in figure.findobj(Text):
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= 0, text
            assert box.x1 <= width, text
            assert box.y0 >= 0, text
            assert box.y1 <= height, text
            assert text.get_text().replace("\n", "").isprintable()


def test_neighbouring_captions_do_not_run_into_each_other():
    caption = "CUSTOMER_UPLOADS_2026_MARCH_0001.JPG\ntrue class: SUMMER_DRESSES"
    figure = laid_out(draw_contact_sheet([panels(*[caption] * 6)]))
    boxes = [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.images]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
