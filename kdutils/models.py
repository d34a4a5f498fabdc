"""The networks of the series, and how to count them.

`build("teacher")`, `build("student")`, `build("pocket")`. Every network takes float
(N, 3, H, W), normalised as `views.normalise` does, and gives logits (N, classes). `print(model)`
shows its layers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .runtime.modes import device_of, eval_mode, layout_of

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

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


def _conv_norm_relu(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2)
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU()


@register("student")
class Student(nn.Sequential):
    """The pocket network of the starting table: 106,826 parameters, 4.0 M multiply-adds.

    Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool (16, 32, 64, 128 channels),
    then global average pooling and two linear layers.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        steps = ((3, 16), (16, 32), (32, 64), (64, 128))
        super().__init__(
            *(nn.Sequential(*_conv_norm_relu(a, b), nn.MaxPool2d(2)) for a, b in steps),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )


@register("published_student")
class PublishedStudent(nn.Sequential):
    """The student of the published experiment, layer by layer: also 106,826 parameters.

    No pool after the fourth convolution, and dropout around the first linear layer; in both our
    `Student` differs. Source: github.com/ajitashwath/model-distillation, `distillation.ipynb`.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        steps = ((3, 16), (16, 32), (32, 64))
        super().__init__(
            *(nn.Sequential(*_conv_norm_relu(a, b), nn.MaxPool2d(2)) for a, b in steps),
            nn.Sequential(*_conv_norm_relu(64, 128)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, classes),
        )


# --- teachers ---------------------------------------------------------------------------------


@register("published_teacher")
class PublishedTeacher(nn.Sequential):
    """The teacher of the published experiment, layer by layer: 4,664,970 parameters.

    A 7x7 convolution with stride 2 and a max pool, then six 3x3 convolutions without shortcuts.
    Source: as `PublishedStudent`.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        steps = ((64, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
                 (512, 512, 1))  # fmt: skip
        super().__init__(
            *_conv_norm_relu(3, 64, kernel=7, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(nn.Sequential(*_conv_norm_relu(a, b, stride=s)) for a, b, s in steps),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(512, classes),
        )


class Residual(nn.Module):
    """x + activation(BN(conv(x))): a shortcut around one 3x3 convolution (He et al. 2015,
    arXiv:1512.03385, with a single layer on the residual path).

    With `repeats` the same filters are used several times, each time with a batch norm of its own:
    depth that costs work but hardly any parameters (recursive networks: Eigen et al. 2013,
    arXiv:1312.1847; a norm for each time: Guo et al., "Dynamic Recursive Neural Network", CVPR
    2019).
    """

    def __init__(
        self, channels: int, repeats: int = 1, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        for number in range(repeats):
            name = f"norm{number + 1}" if number else "norm"
            self.add_module(name, nn.BatchNorm2d(channels))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        conv, *norms, activation = self.children()
        for norm in norms:
            x = x + activation(norm(conv(x)))
        return x


class WhitenedConv(nn.Conv2d):
    """A fixed first layer that decorrelates pixels: filters are the main axes of image patches.

    Neighbouring pixels are nearly equal, so plain filters all see the same thing. These filters
    are the eigenvectors of the patch covariance, each scaled to unit variance, and their negatives
    (a ReLU would else lose half). They are computed once from training images and never learned.
    Source: D. Page, "How to train your ResNet", 2018; K. Jordan, arXiv:2404.00498, section 3.1.

    Args:
        channels_in: of the images.
        channels_out: even; half of it eigenvectors, half their negatives.
        kernel_size: side of a patch. An odd one keeps the image size; 2 takes one pixel off.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int = 3) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(channels_in, channels_out, kernel_size, padding=padding, bias=False)
        self.weight.requires_grad_(False)
        self.register_buffer("prepared", torch.tensor(False))

    def prepare(self, images: Tensor) -> None:
        """Set the filters from normalised images, float (N, C, H, W), unless they are set."""
        if self.prepared:
            return
        size = self.weight[0].numel()
        moments, count = torch.zeros(size, size, dtype=torch.float64, device=images.device), 0
        for part in images.split(100):  # all patches at once would take 730 MB
            patches = nn.functional.unfold(part.contiguous(), self.kernel_size)
            patches = patches.transpose(1, 2).reshape(-1, size).double()
            moments, count = moments + patches.T @ patches, count + len(patches)
        values, vectors = torch.linalg.eigh(moments / count)
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


@register("teacher")
class Teacher(nn.Sequential):
    """A small residual network whose weights sit where pixels are few, so it is cheap to ask.

    A whitened 3x3 stem, then three stages of [3x3 convolution, 2x2 max pool, batch norm, ReLU, some
    residual layers], global max pooling and one linear layer: 2,490,296 parameters, 105.7 M
    multiply-adds.

    Args:
        widths: channels of the stem and of each stage.
        residuals: residual layers of each stage.
        repeats: how often each residual layer is walked through.
        classes: logits per image.
        stem: side of the whitened filters, 3 or 2 pixels.
        activation: for example `nn.GELU`.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (24, 64, 128, 320),
        residuals: tuple[int, int, int] = (1, 1, 2),
        repeats: int = 1,
        classes: int = CLASSES,
        stem: int = 3,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        stages = []
        for channels_in, channels_out, count in zip(widths, widths[1:], residuals, strict=False):
            widen = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
            # Start as a copy of the input plus random filters (Zagoruyko & Komodakis,
            # arXiv:1706.00388).
            nn.init.dirac_(widen.weight.data[:channels_in])
            # Pooling before batch norm does the same work on a quarter of the pixels.
            first = (widen, nn.MaxPool2d(2), nn.BatchNorm2d(channels_out), activation())
            deeper = (Residual(channels_out, repeats, activation) for _ in range(count))
            stages.append(nn.Sequential(*first, *deeper))
        super().__init__(
            nn.Sequential(
                WhitenedConv(3, widths[0], stem), nn.BatchNorm2d(widths[0]), activation()
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
        super().__init__((16, 32, 48, 56), residuals=(1, 1, 1), repeats=3, classes=classes)

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        # Training sees mirrored views anyway: there, one look each is enough.
        return logits if self.training else (logits + super().forward(x.flip(-1))) / 2


# --- counting ---------------------------------------------------------------------------------


def count_parameters(model: nn.Module) -> int:
    """How many weights and biases the network has (buffers, such as running means, left out)."""
    return sum(p.numel() for p in model.parameters())


def size_mb(model: nn.Module) -> float:
    """Megabytes (10^6 bytes) of all weights and buffers as they are stored."""
    return _bytes(model.state_dict()) / 1e6


def size_mib(model: nn.Module) -> float:
    """The same in mebibytes (2^20 bytes), as the published table gives it."""
    return _bytes(model.state_dict()) / 2**20


def _bytes(value: Any) -> int:
    """Of a tensor, or of all tensors in it: int8 layers keep theirs packed in tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = tuple(value.values())
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def count_macs(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> int:
    """Multiply-adds of one forward pass, convolutions and linear layers.

    Counted by PyTorch's own `torch.utils.flop_counter` (two FLOPs are one multiply-add).
    """
    with _counter() as counter:
        _look(model, input_shape)
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class LayerRow:
    """One line of `layer_table`."""

    name: str
    kind: str
    output_shape: tuple[int, ...]  # without the batch dimension; () of what is no tensor
    parameters: int
    macs: int


def layer_table(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> list[LayerRow]:
    """What each elementary layer returns, holds and costs, in the order data flows.

    A layer that is used twice has two rows; its parameters stand in the first.
    """
    rows: list[LayerRow] = []
    names = {layer: name for name, layer in model.named_modules() if not list(layer.children())}

    def write(layer: nn.Module, _: Any, output: Any) -> None:
        if layer in names:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            known = any(row.name == names[layer] for row in rows)
            macs = counter.get_total_flops() // 2 - sum(row.macs for row in rows)
            held = 0 if known else count_parameters(layer)
            rows.append(LayerRow(names[layer], type(layer).__name__, shape, held, macs))

    hook = nn.modules.module.register_module_forward_hook(write)
    try:
        with _counter() as counter:
            _look(model, input_shape)
    finally:
        hook.remove()
    return rows


def _counter() -> FlopCounterMode:
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    return FlopCounterMode(display=False)


def _look(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    images = torch.zeros(input_shape, device=device_of(model))
    with eval_mode(model), torch.no_grad():
        model(images.contiguous(memory_format=layout_of(model)))
