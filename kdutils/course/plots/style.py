"""What all figures share: palette, style, headings, PNG bytes, and `show` with its text alternative.

Figures are made without pyplot: nothing is shown twice and nothing stays in memory.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from ...losses import softened

PALETTE = tuple(sns.color_palette("colorblind").as_hex())
TEACHER, STUDENT, DISTILLED = PALETTE[0], PALETTE[2], PALETTE[3]
INK, GREY, PALE, BAND = "#22262b", "#6b7280", "#e3e6ea", "#fbeec2"
SEQUENTIAL, DIVERGING = "YlGnBu", "vlag_r"
STYLE: dict[str, Any] = {
    **sns.axes_style("ticks"),
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa1ab",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": PALE,
    "lines.linewidth": 1.8,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "figure.dpi": 100,
}
styled = rc_context(STYLE)  # as a decorator: the style holds inside one function, never outside
_ROLES = {  # the first word found decides: "shuffled teacher" is not the teacher
    "shuffl": PALETTE[7],
    "smooth": PALETTE[4],
    "distil": DISTILLED,
    "teacher": TEACHER,
    "label": STUDENT,
    "baseline": STUDENT,
    "student": STUDENT,
}


def role_colour(name: str, position: int = 0) -> str:
    """The colour a model keeps through the series; others take the palette in order."""
    for word, colour in _ROLES.items():
        if word in name.lower():
            return colour
    return PALETTE[(1, 9, 8, 5, 6)[position % 5]]


def new_figure(
    width: float, height: float, title: str, data_name: str = "", top: float | None = None
) -> Figure:
    """A Figure of `width` x `height` inches (at most 9 wide) with its heading; axes come later."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        title, x=0.1 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=12, weight="bold"
    )
    if data_name:
        y = 1 - 0.32 / height
        figure.text(0.1 / width, y, data_name, ha="left", va="top", color=GREY, fontsize=9)
    top = top or (0.6 if data_name else 0.4)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - top / height), w_pad=0.08, h_pad=0.06)
    return figure


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def show(figure: Figure, alt: str, caption: str | None = None) -> None:
    """Display a figure with a text alternative and one visible sentence under it.

    Args:
        figure: what a function of this module returned.
        alt: one or two sentences that tell what one would see.
        caption: the visible sentence; the text alternative itself when left out.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("A figure needs a text alternative; say in a sentence what one would see.")
    from IPython.display import display

    # nbconvert's default template drops the alt metadata: hence the visible sentence as well.
    picture = base64.b64encode(png(figure)).decode()
    bundle = {"image/png": picture, "text/plain": f"[figure: {alt}]"}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)
    caption = caption or alt
    note = f"<p style='color:#57606a;max-width:60em'><em>{html.escape(caption)}</em></p>"
    display({"text/html": note, "text/plain": caption}, raw=True)


def array(values: Any) -> NDArray[Any]:
    """A NumPy array of a tensor (any device, half precision widened) or of an array-like."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype.is_floating_point else values).numpy()
    return np.asarray(values)


def probabilities(logits: ArrayLike | torch.Tensor, temperature: float) -> NDArray[Any]:
    """softmax(logits / T) as an array, by `losses.softened`."""
    return softened(torch.as_tensor(array(logits), dtype=torch.float64), temperature).numpy()


def picture(image: ArrayLike | torch.Tensor) -> NDArray[np.uint8]:
    """(3, H, W) to the (H, W, 3) that imshow wants."""
    return array(image).transpose(1, 2, 0)


def human(number: float) -> str:
    """A count in three figures: 106826 -> `107 k`, 4001472 -> `4.00 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def percent_axis(axis: Any, decimals: int | None = 0) -> None:
    """Tick labels in per cent for an axis that holds fractions."""
    axis.set_major_formatter(PercentFormatter(1, decimals=decimals, symbol=" %"))


def temperature_axis(axes: Axes, low: float, high: float, ticks: Iterable[float] = ()) -> None:
    """A log axis for T with plain numbers at 0.5, 1, 2, 4, 8 … inside low..high."""
    chosen = list(ticks) or [t for t in (0.5, 1, 2, 4, 8, 16, 32, 64) if low <= t <= high]
    axes.set(xscale="log", xlim=(low, high), xlabel="temperature T (log scale)")
    axes.xaxis.set_major_locator(NullLocator())
    axes.set_xticks(chosen, [f"{t:g}" for t in chosen])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def named(values: Any, name: str = "") -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {name: values}


def bare(axes: Axes) -> None:
    """No frame and no ticks: for pictures."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
