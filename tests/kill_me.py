"""The process that test_train.py kills: trains with a checkpoint, then writes its weights."""

import sys

import torch
from small import TinyNet, tiny_data

from kdutils.train import Recipe, fit

if __name__ == "__main__":
    checkpoint, out = sys.argv[1:]
    model = TinyNet()
    recipe = Recipe(epochs=12, batch_size=64, learning_rate=0.1)
    fit(model, tiny_data(), recipe, seed=5, checkpoint=checkpoint, progress=False)
    torch.save(model.state_dict(), out)
