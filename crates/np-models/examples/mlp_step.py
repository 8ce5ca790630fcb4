"""PyTorch's side of `mlp_step.rs`: images per second of each round of ten passes, as a JSON list. Arguments: rounds, and
`adamw` for a step of the fused AdamW after each pass."""

import json
import os
import sys
import time

import torch
from torch import nn

BATCH, STEPS = 128, 10

if threads := os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(threads))
layers = [nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 10)]
net = nn.Sequential(*layers).train()
optimizer = torch.optim.AdamW(net.parameters(), fused=True) if sys.argv[2:] == ["adamw"] else None
x, y = torch.randn(BATCH, 784), torch.arange(BATCH) % 10
rates = []
for i in range(int(sys.argv[1]) + 2):
    start = time.perf_counter()
    for _ in range(STEPS):
        net.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if optimizer:
            optimizer.step()
    if i >= 2:
        rates.append(BATCH * STEPS / (time.perf_counter() - start))
print(json.dumps(rates))
