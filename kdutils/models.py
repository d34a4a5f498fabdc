"""The networks of the series, and how to count them.

`build("teacher")`, `build("student")`, `build("pocket")`. Every network takes float
(N, 3, 32, 32), normalised as `views.normalise` does, and gives logits (N, classes). `print(model)` shows
its layers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLASSES = 10
MOST_CLASSES = 1_000
INPUT_SHAPE = (1, 3, 32, 32)

Builder = Callable[..., nn.Module]  # takes `classes`
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator: make a network known to `build` under `name`. It is called with `classes=…`."""

    def remember(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return remember


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(_BUILDERS)


def check_name(name: str) -> None:
    """Raise ValueError unless `build` knows the network."""
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no network {name!r}; choose from {', '.join(_BUILDERS)}.{hint}")


def build(name: str, seed: int | None = None, classes: int = CLASSES) -> nn.Module:
    """A fresh network with random weights.

    Args:
        name: one of `names()`.
        seed: makes the random weights repeatable; the global random state is left alone.
        classes: logits per image, 2 to 1,000.

    Returns:
        In train mode, on the CPU, in channels_last layout, with `.name` and `.classes`.

    Raises:
        ValueError: there is no such network, or no such number of classes.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise ValueError(f"A classifier of {classes} classes cannot be built; give 2 to 1,000.")
    check_name(name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = _BUILDERS[name](classes=classes)
    model.name, model.classes = name, classes
    return model.to(memory_format=torch.channels_last)


# --- the student ------------------------------------------------------------------------------


def _student_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


@register("student")
class Student(nn.Sequential):
    """The pocket network of the starting table: 106,826 parameters, 4.0 M multiply-adds.

    Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool (16, 32, 64, 128 channels),
    then global average pooling and two linear layers.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        widths = (3, 16, 32, 64, 128)
        blocks = [_student_block(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        super().__init__(
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )


# --- the teacher ------------------------------------------------------------------------------


class Residual(nn.Module):
    """x + ReLU(BN(conv(x))): a shortcut around one 3x3 convolution (He et al. 2015,
    arXiv:1512.03385, with a single layer on the residual path)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class WhitenedConv(nn.Conv2d):
    """A fixed first layer that decorrelates pixels: filters are the main axes of image patches.

    Neighbouring pixels are nearly equal, so plain filters all see the same thing. These filters
    are the eigenvectors of the patch covariance, each scaled to unit variance, and their negatives
    (a ReLU would else lose half). They are computed once from training images and never learned.
    Source: D. Page, "How to train your ResNet", 2018; K. Jordan, arXiv:2404.00498, section 3.1.

    Args:
        channels_in: 3.
        channels_out: even; half of it eigenvectors, half their negatives.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
        self.weight.requires_grad_(False)
        self.register_buffer("prepared", torch.tensor(False))

    def prepare(self, images: Tensor) -> None:
        """Set the filters from normalised images, float (N, C, H, W), unless they are set."""
        if self.prepared:
            return
        patches = nn.functional.unfold(images.contiguous(), kernel_size=3)
        patches = patches.transpose(1, 2).reshape(-1, self.weight[0].numel()).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        # 0.01 keeps the faintest axes, mostly noise, from being blown up.
        filters = (vectors / (values + 0.01).sqrt()).flip(1).T[: self.out_channels // 2]
        filters = filters.reshape(-1, *self.weight.shape[1:]).to(self.weight)
        with torch.no_grad():
            self.weight.copy_(torch.cat([filters, -filters]))
        self.prepared.fill_(True)


class Scale(nn.Module):
    """Multiply by a constant: keeps the first logits small, so that training starts gently."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor}"


class Revisited(nn.Module):
    """A `Residual` whose filters are used several times, with a batch norm for each turn.

    Depth that costs work but hardly any parameters (recursive networks: Eigen et al. 2013,
    arXiv:1312.1847; a norm for each turn: Guo et al., "Dynamic Recursive Neural Network", CVPR
    2019).
    """

    def __init__(self, channels: int, turns: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(turns))

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = x + norm(self.conv(x)).relu()
        return x


def _teacher_stage(
    channels_in: int, channels_out: int, residuals: int, turns: int
) -> nn.Sequential:
    widen = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    # Start as a copy of the input plus random filters (Zagoruyko & Komodakis, arXiv:1706.00388).
    nn.init.dirac_(widen.weight.data[:channels_in])
    # Pooling before batch norm does the same work on a quarter of the pixels.
    return nn.Sequential(
        widen,
        nn.MaxPool2d(2),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        *(
            Residual(channels_out) if turns == 1 else Revisited(channels_out, turns)
            for _ in range(residuals)
        ),
    )


@register("teacher")
class Teacher(nn.Sequential):
    """A small residual network whose weights sit where pixels are few, so it is cheap to ask.

    A whitened 3x3 stem, then three stages of [3x3 convolution, 2x2 max pool, batch norm, ReLU, some
    residual layers], global max pooling and one linear layer: 2,490,296 parameters, 105.7 M
    multiply-adds.

    Args:
        widths: channels of the stem and of each stage.
        residuals: residual layers of each stage.
        turns: how often each residual layer is walked through.
        classes: logits per image.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (24, 64, 128, 320),
        residuals: tuple[int, int, int] = (1, 1, 2),
        turns: int = 1,
        classes: int = CLASSES,
    ) -> None:
        stages = [
            _teacher_stage(a, b, r, turns)
            for a, b, r in zip(widths, widths[1:], residuals, strict=False)
        ]
        super().__init__(
            nn.Sequential(
                WhitenedConv(3, widths[0]),
                nn.BatchNorm2d(widths[0]),
                nn.ReLU(),
            ),
            *stages,
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], classes, bias=False),
            Scale(0.125),
        )


@register("pocket")
class Pocket(Teacher):
    """The best we know within the student's 106,826 parameters: a teacher in small.

    It buys accuracy with work instead of parameters. Each residual layer is used three times. And
    in eval mode it looks twice, at the image and at its mirror image, and gives the mean of both
    logits (as Krizhevsky et al. 2012, section 4.1, did with ten views). 102,912 parameters,
    2 x 22.7 M multiply-adds.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__((16, 32, 48, 56), residuals=(1, 1, 1), turns=3, classes=classes)

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        # Training sees mirrored views anyway: there, one look each is enough.
        return logits if self.training else (logits + super().forward(x.flip(-1))) / 2


# --- counting ---------------------------------------------------------------------------------


def count_parameters(model: nn.Module) -> int:
    """How many weights and biases the network has (buffers, such as running means, left out)."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> int:
    """Multiply-adds of one forward pass, convolutions and linear layers.

    Counted by PyTorch's own `torch.utils.flop_counter` (two FLOPs are one multiply-add).
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(input_shape, device=device))
    model.train(was_training)
    return counter.get_total_flops() // 2


def size_mb(model: nn.Module) -> float:
    """Megabytes (10^6 bytes) of all weights and buffers as they are stored."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6


@dataclass(frozen=True)
class LayerRow:
    """One line of `layer_table`."""

    name: str
    kind: str
    output_shape: tuple[int, ...]  # without the batch dimension
    parameters: int
    macs: int


def layer_table(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> list[LayerRow]:
    """What each elementary layer gives out, holds and costs, in the order data flows."""
    rows: list[LayerRow] = []
    hooks = [
        layer.register_forward_hook(_row_writer(name, rows))
        for name, layer in model.named_modules()
        if not list(layer.children())
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(input_shape))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return rows


def _row_writer(name: str, rows: list[LayerRow]) -> Callable[..., None]:
    def write(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shape = tuple(output.shape[1:])
        used_before = any(row.name == name for row in rows)  # its parameters are counted already
        parameters = 0 if used_before else count_parameters(layer)
        rows.append(LayerRow(name, type(layer).__name__, shape, parameters, _macs(layer, shape)))

    return write


def _macs(layer: nn.Module, output_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one layer per image: weights used once for each output pixel."""
    if isinstance(layer, nn.Conv2d):
        return layer.weight.numel() * output_shape[-1] * output_shape[-2]
    return layer.weight.numel() if isinstance(layer, nn.Linear) else 0
