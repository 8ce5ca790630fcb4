"""PyTorch's time of a step on this CPU, nanoseconds a parameter, as one JSON object: the best of many after a warm-up.

`cargo xtask bench` runs it beside ours. Argument: the number of threads.
"""
import json
import sys
import time

import torch

threads = int(sys.argv[1])
torch.set_num_threads(threads)


def best(step, repeats):
    step(), step()
    least = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        least = min(least, time.perf_counter() - start)
    return least


SIZES = {"1M": [(1_000_000,)], "11M": [(11_000_000,)],
         "mlp": [(256, 784), (256,), (256, 256), (256,), (10, 256), (10,)]}
OPTIMIZERS = {
    "sgd": lambda p, fused: torch.optim.SGD(p, lr=1e-3, fused=fused),
    "sgd_momentum": lambda p, fused: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=fused),
    "adam": lambda p, fused: torch.optim.Adam(p, fused=fused),
    "adamw": lambda p, fused: torch.optim.AdamW(p, fused=fused),
}

out = {"version": torch.__version__, "threads": torch.get_num_threads()}
for size, shapes in SIZES.items():
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p) * 0.01
    count = sum(p.numel() for p in params)
    for name, make in OPTIMIZERS.items():
        for suffix, fused in (("", True), ("_default", False)):
            repeats = max(10, min(200, 40_000_000 // count)) if fused else 5
            out[f"{name}{suffix}_{size}"] = best(make(params, fused).step, repeats) * 1e9 / count
print(json.dumps(out))
