"""PyTorch's side of `resnet_step.rs`: images per second of each pass, as a JSON list. Arguments: width, batch, passes."""

import json
import os
import sys
import time

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class Small(ResNet):
    """ResNet-18 with the stem for small images and stages of `width` times 1, 2, 4 and 8 channels."""

    def __init__(self, width):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=10)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity()
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)
        self.fc = nn.Linear(8 * width, 10)


width, batch, passes = map(int, sys.argv[1:])
if threads := os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(threads))
net = Small(width).train()
x, y = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
rates = []
for i in range(passes + 2):
    start = time.perf_counter()
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    if i >= 2:
        rates.append(batch / (time.perf_counter() - start))
print(json.dumps(rates))
