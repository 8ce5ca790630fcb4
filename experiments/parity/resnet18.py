"""The runs of `experiments/cifar-parity.yaml` in PyTorch: prints one JSON object, test accuracy by epoch of each seed.

Arguments: the folder with CIFAR-10's binary version (`data_batch_*.bin`, `test_batch.bin`), and the seeds (41 42 43). What is random is
drawn by PyTorch: with the same seeds, other numbers than ours. Needs torch, torchvision and numpy.
`resnet18.json` is what it printed for the seeds 41, 42 and 43, on one thread.
"""
import json
import math
import os
import pathlib
import sys

import numpy as np
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

WIDTH, IMAGES, EPOCHS, BATCH = 16, 10_000, 10, 128
LR, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
MEAN = torch.tensor([0.491, 0.482, 0.447]).view(1, 3, 1, 1)
STD = torch.tensor([0.247, 0.243, 0.262]).view(1, 3, 1, 1)


class Small(ResNet):
    """ResNet-18 with the stem for small images and stages of `width` times 1, 2, 4 and 8 channels, initialised as torchvision does."""

    def __init__(self, width):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=10)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity()
        for i in range(4):
            setattr(self, f"layer{i + 1}", self._make_layer(BasicBlock, width << i, 2, stride=1 if i == 0 else 2))
        self.fc = nn.Linear(8 * width, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def read(folder, pattern):
    rows = np.concatenate([np.fromfile(path, np.uint8) for path in sorted(folder.glob(pattern))]).reshape(-1, 3073)
    return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(np.int64))


def normal(images):
    return (images.float() / 255 - MEAN) / STD


def augmented(images, rng):
    """Windows of the images with 4 black pixels around them, mirrored every other time."""
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    down, right = rng.integers(0, 9, len(images)), rng.integers(0, 9, len(images))
    mirrored = rng.random(len(images)) < 0.5
    views = [padded[i, :, d : d + 32, r : r + 32] for i, (d, r) in enumerate(zip(down, right))]
    return torch.stack([view.flip(2) if flip else view for view, flip in zip(views, mirrored)])


def train(seed, images, labels, test_images, test_labels):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    share = IMAGES // 10
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels.numpy() == c))[:share] for c in range(10)])
    net = Small(WIDTH)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    steps, step, accuracy = math.ceil(IMAGES / BATCH) * EPOCHS, 0, []
    for _ in range(EPOCHS):
        net.train()
        order = rng.permutation(chosen)
        for start in range(0, IMAGES, BATCH):
            batch = order[start : start + BATCH]
            optimizer.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(normal(augmented(images[batch], rng))), labels[batch]).backward()
            optimizer.step()
            step += 1
        net.eval()
        with torch.no_grad():
            right = sum(
                (net(normal(test_images[i : i + 500])).argmax(1) == test_labels[i : i + 500]).sum().item()
                for i in range(0, len(test_labels), 500)
            )
        accuracy.append(right / len(test_labels))
        print(f"seed {seed}: {accuracy[-1]:.4f}", file=sys.stderr)
    return accuracy


folder, seeds = pathlib.Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [41, 42, 43]
if threads := os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(threads))
data = read(folder, "data_batch_*.bin") + read(folder, "test_batch.bin")
out = {"torch": torch.__version__, "accuracy_by_epoch": {seed: train(seed, *data) for seed in seeds}}
print(json.dumps(out, indent=1))
