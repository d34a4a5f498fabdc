"""What all figures share: palette, style, headings, names as they are, PNG bytes, and `show`.

Figures are made without pyplot: nothing is shown twice and nothing stays in memory.

Text is drawn as it is. A class may be called `US$ or CA$`: `STYLE` turns Matplotlib's mathematics
and TeX off for every text that is made inside a function with `styled`.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from ...losses import softened

DPI = 150  # dots an inch of what is stored; pages show it at SCREEN, sharp on fine screens too
SCREEN = 100
CLASSES = 20  # more names than these cannot be read in one figure: the telling ones are chosen
PALETTE = tuple(sns.color_palette("colorblind").as_hex())
TEACHER, STUDENT, DISTILLED = PALETTE[0], PALETTE[2], PALETTE[3]
INK, GREY, PALE, BAND = "#22262b", "#6b7280", "#e3e6ea", "#fbeec2"
SEQUENTIAL, DIVERGING = "YlGnBu", "vlag_r"
STYLE: dict[str, Any] = {
    **sns.axes_style("ticks"),
    "text.parse_math": False,
    "text.usetex": False,
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
    "figure.dpi": SCREEN,
}
_ROLES = {  # the first word found decides: "shuffled teacher" is not the teacher
    "same class": PALETTE[5],
    "within class": PALETTE[5],
    "any class": PALETTE[7],
    "shuffl": PALETTE[7],
    "smooth": PALETTE[4],
    "times 0.1": PALETTE[9],
    "distil": DISTILLED,
    "teacher": TEACHER,
    "label": STUDENT,
    "baseline": STUDENT,
    "student": STUDENT,
}
_OTHERS = (PALETTE[1], PALETTE[9], INK)


def styled(make: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the style holds inside one function, never outside.

    Where the first thing it is to show is empty, its figure says so in a word.
    """

    @functools.wraps(make)
    def drawn(*arguments: Any, **options: Any) -> Any:
        first = arguments[0] if arguments else next(iter(options.values()), None)
        title = options.get("title") or make.__name__.replace("_", " ").capitalize()
        with rc_context(STYLE):
            if hasattr(first, "__len__") and not len(first):
                return nothing(title, options.get("data_name", ""))
            made = make(*arguments, **options)
            # Ticks are made when first asked for, in the style of that moment: so ask here.
            for axes in made.axes if isinstance(made, Figure) else ():
                axes.get_xticklabels(), axes.get_yticklabels()
            return made

    return drawn


def role_colour(name: str) -> str:
    """The colour that an arm keeps in all figures; a name without a role has one of its own."""
    for word, colour in _ROLES.items():
        if word in name.lower():
            return colour
    return _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]


def role_colours(names: Iterable[str]) -> dict[str, str]:
    """`role_colour` of each name; two arms of one figure differ as long as colours last.

    The shorter name has the first choice: "labels only" before "labels only, times 0.1".
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=len):
        free = (c for c in (role_colour(name), *_OTHERS, *PALETTE) if c not in found.values())
        found[name] = next(free, role_colour(name))
    return found


def new_figure(
    width: float, height: float, title: str, data_name: str = "", *, note: str = ""
) -> Figure:
    """A Figure of `width` x `height` inches (at most 9 wide) with its heading; axes come later.

    Under the title stands the name of the data, dark if it is not CIFAR-10 (then other numbers
    than the course's are to be expected), and a `note`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    x = 0.1 / width
    figure.suptitle(title, x=x, y=1 - 0.08 / height, ha="left", va="top", size=12, weight="bold")
    foreign = bool(data_name) and "CIFAR-10" not in data_name
    data_name += " (not CIFAR-10)" * foreign
    line = " · ".join(part for part in (data_name, note) if part)
    if line:
        colour = INK if foreign else GREY
        figure.text(x, 1 - 0.32 / height, line, ha="left", va="top", color=colour, fontsize=9)
    top = 0.6 if line else 0.4
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - top / height), w_pad=0.08, h_pad=0.06)
    return figure


def nothing(title: str, data_name: str = "") -> Figure:
    """A figure without axes that says that there is nothing to show."""
    figure = new_figure(5, 1.6, title, data_name)
    figure.text(0.5, 0.35, "nothing to show", ha="center", color=GREY, fontsize=11)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes, 150 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure with a text alternative, which stands under it as well.

    Raises:
        ValueError: `alt`, one or two sentences that tell what one would see, is empty.
    """
    if not alt.strip():
        raise ValueError("A figure needs a text alternative; say in a sentence what one would see.")
    from IPython.display import display

    # nbconvert's default template drops the alt metadata: hence the visible sentence as well.
    picture = base64.b64encode(png(figure)).decode()
    bundle = {"image/png": picture, "text/plain": f"[figure: {alt}]"}
    size = {"alt": alt, "width": round(SCREEN * figure.get_figwidth())}
    display(bundle, metadata={"image/png": size}, raw=True)
    ink = "color:var(--jp-ui-font-color1, #57606a)"  # the reader's theme decides: it may be dark
    note = f"<p style='{ink};max-width:60em'><em>{html.escape(alt)}</em></p>"
    display({"text/html": note, "text/plain": alt}, raw=True)


def array(values: Any) -> NDArray[Any]:
    """A NumPy array of a tensor (any device, half precision widened) or of an array-like."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype.is_floating_point else values).numpy()
    return np.asarray(values)


def probabilities(logits: ArrayLike | torch.Tensor, temperature: float) -> NDArray[Any]:
    """softmax(logits / T) as an array, by `losses.softened`."""
    return softened(torch.as_tensor(array(logits), dtype=torch.float64), temperature).numpy()


def picture(image: ArrayLike | torch.Tensor) -> NDArray[Any]:
    """(C, H, W) to the (H, W, 3) that imshow wants; one channel, or any but three, becomes grey."""
    pixels = array(image)
    if len(pixels) != 3:
        pixels = np.repeat(pixels.mean(0, keepdims=True).astype(pixels.dtype), 3, axis=0)
    return pixels.transpose(1, 2, 0)


def draw_pixels(axes: Axes, pixels: NDArray[Any]) -> None:
    """A picture (H, W, 3) without frame and ticks: small in clear pixels, large smooth."""
    axes.imshow(pixels, interpolation="nearest" if max(pixels.shape) <= 64 else "auto")
    bare(axes)


def heatmap(axes: Axes, values: Any, words: Sequence[str], size: float, **options: Any) -> None:
    """seaborn's heat map with `words` (row by row) in its cells."""
    words = np.array(words).reshape(np.shape(values))
    options |= {"annot": words, "fmt": "", "annot_kws": {"size": size}, "linewidths": 1.5}
    sns.heatmap(values, ax=axes, **options)
    axes.tick_params(length=0, rotation=0)


def check_names(classes: Sequence[str], count: int, whose: str) -> None:
    """ValueError unless there is one name for each of `count` classes."""
    if len(classes) != count:
        raise ValueError(
            f"{whose} of {count} classes, but {len(classes)} names were given; give one a class."
        )


def telling_classes(scores: ArrayLike, why: str) -> tuple[NDArray[np.intp], str]:
    """The `CLASSES` classes of greatest score, in their own order, and a note that says so.

    All of them, and no note, where all fit.
    """
    scores = np.asarray(scores, dtype=float)
    if len(scores) <= CLASSES:
        return np.arange(len(scores)), ""
    chosen = np.sort(np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:CLASSES])
    return chosen, f"{CLASSES} of {len(scores):,} classes: {why}"


def short(name: str, most: int = 34) -> str:
    """The name, its lines cut where they would push the axes out of the figure."""
    lines = name.split("\n")
    return "\n".join(one if len(one) <= most else one[: most - 1] + "…" for one in lines)


def legend_name(name: str) -> str:
    """A name for a legend, which leaves out what starts with an underscore: a joiner hides it."""
    return f"\u2060{name}" if name.startswith("_") else name


def legend_beside(axes: Axes) -> None:
    """The legend right of the axes, where it covers nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def legend_above(axes: Axes, columns: int = 4) -> None:
    """The legend over the axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def human(number: float) -> str:
    """A count in three figures: 106826 -> `107 k`, 4001472 -> `4.00 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def percent_axis(axis: Any) -> None:
    """Tick labels in per cent for an axis that holds fractions; as many decimals as it takes."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))


def log_axis(axis: Any) -> None:
    """Plain numbers on a log axis: Matplotlib's own powers of ten are markup."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def temperature_axis(axes: Axes, low: float, high: float) -> None:
    """A log axis for T with plain numbers at 0.5, 1, 2, 4, 8 … inside low..high."""
    chosen = [t for t in (0.5, 1, 2, 4, 8, 16, 32, 64) if low <= t <= high]
    axes.set(xscale="log", xlim=(low, high), xlabel="temperature T (log scale)")
    axes.xaxis.set_major_locator(NullLocator())
    axes.set_xticks(chosen, [f"{t:g}" for t in chosen])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def name_rows(axes: Axes, names: Collection[str]) -> None:
    """One name a row, the first on top, without ticks."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def tilt(axes: Axes) -> None:
    """Names under a map: slanted, or upright where they are many."""
    axes.tick_params(axis="both", length=0, rotation=0)
    labels = axes.get_xticklabels()
    for label in labels:
        label.set(ha="right", rotation=40 if len(labels) <= 12 else 90, rotation_mode="anchor")
        label.set_va("top" if len(labels) <= 12 else "center")


def bare(axes: Axes) -> None:
    """No frame and no ticks: for pictures."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
