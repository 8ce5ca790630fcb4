"""PyTorch's side of `resnet_step.rs`: images per second of each pass, as a JSON list. Arguments: width, batch, passes. Needs PyTorch alone."""

import json
import os
import sys
import time

import torch
from torch import nn


class Block(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), the shortcut a 1 × 1 convolution with a norm where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        h += x if self.downsample is None else self.downsample(x)
        return self.relu(h)


class ResNet18(nn.Module):
    """The network of np-models, under the same names: a 3 × 3 stem without max-pooling, stages of `width` times 1, 2, 4 and 8 channels."""

    def __init__(self, width, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        inputs = width
        for stage, (widths, stride) in enumerate([(1, 1), (2, 2), (4, 2), (8, 2)], 1):
            outputs = widths * width
            self.add_module(f"layer{stage}", nn.Sequential(Block(inputs, outputs, stride), Block(outputs, outputs, 1)))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def main():
    width, batch, passes = map(int, sys.argv[1:])
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    net = ResNet18(width).train()
    x, y = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
    rates = []
    for i in range(passes + 2):
        start = time.perf_counter()
        net.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if i >= 2:
            rates.append(batch / (time.perf_counter() - start))
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
