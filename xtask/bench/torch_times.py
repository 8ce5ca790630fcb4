"""PyTorch's time of a step on this CPU, nanoseconds a parameter, as one JSON object: the best of many after a warm-up.

`cargo xtask bench` runs it beside ours. Arguments: the number of threads, and the names of what to measure, all where there are none. Of each optimizer the fastest form counts: fused where there
is one, else the faster of the loop over tensors and foreach. What torch itself lacks comes from pytorch_optimizer, schedulefree
and prodigyopt, where they are installed. Nothing is compiled.
"""
import importlib
import json
import sys
import time

import torch

threads, only = int(sys.argv[1]), sys.argv[2:]
torch.set_num_threads(threads)
ENOUGH = 0.2  # seconds for a form


def package(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


others, schedulefree, prodigyopt = package("pytorch_optimizer"), package("schedulefree"), package("prodigyopt")
optim = torch.optim

WIDTHS = [784, 256, 256, 10]
SIZES = {
    "mlp": [shape for a, b in zip(WIDTHS, WIDTHS[1:]) for shape in [(b, a), (b,)]],
    "1M": [(1_000_000,)],
    "11M": [(11_000_000,)],
    "matrix": [(1024, 1024)],
    "block": [(256, 256)],
}
ALL = ["mlp", "1M", "11M"]
FUSED = [{"fused": True}]
LOOPS = [{"foreach": False}, {"foreach": True}]
ONE = [{}]


def muon(params):
    """Muon for matrices, and AdamW for the rest, as ours."""
    steps = [optim.Muon([p for p in params if p.ndim == 2])]
    if vectors := [p for p in params if p.ndim != 2]:
        steps.append(optim.AdamW(vectors, fused=True))
    return steps


# Name, sizes, forms, and how it is made.
CASES = [
    ("sgd", ALL, FUSED, lambda p, **form: optim.SGD(p, lr=1e-3, **form)),
    ("sgd_momentum", ALL, FUSED, lambda p, **form: optim.SGD(p, lr=1e-3, momentum=0.9, **form)),
    ("adam", ALL, FUSED, optim.Adam),
    ("adamw", ALL, FUSED, optim.AdamW),
    ("adagrad", ALL, FUSED, optim.Adagrad),
    ("nadam", ALL, LOOPS, optim.NAdam),
    ("radam", ALL, LOOPS, optim.RAdam),
    ("adamax", ALL, LOOPS, optim.Adamax),
    ("adadelta", ALL, LOOPS, optim.Adadelta),
    ("rmsprop", ALL, LOOPS, optim.RMSprop),
    ("rprop", ALL, LOOPS, optim.Rprop),
    ("asgd", ALL, LOOPS, optim.ASGD),
    ("adafactor", [*ALL, "matrix"], LOOPS, optim.Adafactor),
    ("muon", ["mlp", "matrix"], ONE, muon),
    ("lbfgs", ["mlp", "1M"], ONE, lambda p: optim.LBFGS(p, lr=0.01, max_iter=1, history_size=10)),
]
if others:
    CASES += [
        ("lion", ALL, LOOPS, others.Lion),
        ("yogi", ALL, LOOPS, others.Yogi),
        ("qhadam", ALL, LOOPS, others.QHAdam),
        ("adabelief", ALL, LOOPS, others.AdaBelief),
        ("adan", ALL, LOOPS, others.Adan),
        ("lamb", ALL, LOOPS, lambda p, **form: others.Lamb(p, max_grad_norm=0.0, **form)),
        ("lars", ALL, LOOPS, others.LARS),
        ("shampoo", ["block"], ONE, others.Shampoo),
        ("soap", ["block"], ONE, others.SOAP),
    ]
if schedulefree:
    CASES += [
        ("schedule_free_adamw", ALL, LOOPS, schedulefree.AdamWScheduleFree),
        ("schedule_free_sgd", ALL, LOOPS, lambda p, **form: schedulefree.SGDScheduleFree(p, lr=1e-3, **form)),
    ]
if prodigyopt:
    CASES.append(("prodigy", ALL, ONE, prodigyopt.Prodigy))


def best(name, optimizers, params):
    """Seconds for a step; where something is done every tenth step only, the mean over ten."""
    for optimizer in optimizers:
        if hasattr(optimizer, "train"):
            optimizer.train()
    period = 10 if name == "soap" else 1
    closure = [lambda: torch.zeros(())] if name == "lbfgs" else []
    least, rounds, begin = float("inf"), 0, time.perf_counter()
    warm_up = 12 if name == "lbfgs" else 2  # until its history is full
    while rounds < warm_up + 3 or (rounds < 200 and time.perf_counter() - begin < ENOUGH):
        spent = 0.0
        for _ in range(period):
            if name == "lbfgs":  # it learns from changes of the gradient: a bowl's
                for i, p in enumerate(params):
                    p.grad.copy_(p.detach()).mul_(0.01 * (i + 1))
            start = time.perf_counter()
            for optimizer in optimizers:
                optimizer.step(*closure)
            spent += time.perf_counter() - start
        if rounds >= warm_up:
            least = min(least, spent / period)
        rounds += 1
    return least


out = {"version": torch.__version__, "threads": torch.get_num_threads(), "forms": {}}
for size, shapes in SIZES.items():
    count = sum(torch.Size(shape).numel() for shape in shapes)
    for name, sizes, forms, make in CASES:
        if size not in sizes or (only and name not in only):
            continue
        for form in forms:
            params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
            for p in params:
                p.grad = torch.randn_like(p) * 0.01
            made = make(params, **form)
            spent = best(name, made if isinstance(made, list) else [made], params) * 1e9 / count
            key = f"{name}_{size}"
            if spent < out.get(key, float("inf")):
                out[key] = spent
                out["forms"][key] = next((what for what, on in form.items() if on), "loop")
print(json.dumps(out))
