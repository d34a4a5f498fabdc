"""Taps: what named layers of a network give out, taken on the way by forward hooks.

    with Taps(model, ["features.3"]) as features:
        logits = model(pixels)
        features["features.3"]            # the layer's output for `pixels`

The hooks are removed when the block ends, whatever ended it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from torch import Tensor, nn


class Taps:
    """Layer name -> float32 output of the last forward pass, with its gradient.

    Args:
        model: any network; or None where no layers are named.
        layers: names as in `model.named_modules()`. A layer that is called several times in a pass shows its last output.

    Raises:
        ValueError: there is no such layer; on entering.
    """

    def __init__(self, model: nn.Module | None, layers: Iterable[str]) -> None:
        self.model, self.layers = model, tuple(layers)

    def __enter__(self) -> dict[str, Tensor]:
        known = {} if self.model is None else dict(self.model.named_modules())
        for name in self.layers:
            if name not in known:
                raise ValueError(_unknown(name, self.model, [each for each in known if each]))
        self.features: dict[str, Tensor] = {}
        self.hooks = [known[name].register_forward_hook(self._noting(name)) for name in self.layers]
        return self.features

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()
        self.features.clear()  # they hold a batch's whole graph

    def _noting(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def note(layer: nn.Module, inputs: object, output: object) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"Layer {name!r} gives a {type(output).__name__}, not a tensor; name a layer "
                    "inside it."
                )
            self.features[name] = output.float()  # half precision under autocast

        return note


def _unknown(name: str, model: nn.Module | None, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
    return (
        f"{type(model).__name__} has no layer {name!r}; the nearest are "
        f"{', '.join(map(repr, near))} (see model.named_modules())."
    )
