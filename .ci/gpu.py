"""PyTorch's side of `gpu.sh`, and its table.

    gpu.py torch                        times steps of PyTorch's optimizers on the CUDA device: a JSON object
    gpu.py table OURS.jsonl TORCH.json  both, side by side; ours is an object a line, as far as it came
    gpu.py torch-models                 times PyTorch's passes of ResNet-18 and of the MLP: a JSON object
    gpu.py profile PROFILE.jsonl        what a training step's time goes to, by kind of operation
    gpu.py models LAYERS.jsonl MODELS.jsonl SPEED.jsonl TORCH.json   what `gpu_models` found, and both sides' times
"""

import json
import sys
import time

STEPS = 100
ROUNDS = 3


def resnet():
    """Shapes of ResNet-18 for images of 32 by 32."""
    shapes, width = [], 64

    def layer(out, width, side):
        shapes.extend([(out, width, side, side), (out,), (out,)])

    layer(64, 3, 3)
    for out in (64, 128, 256, 512):
        for block in range(2):
            layer(out, width, 3)
            layer(out, out, 3)
            if block == 0 and out != width:
                layer(out, width, 1)
            width = out
    return shapes + [(10, 512), (10,)]


def mlp():
    """Shapes of the experiments' MLP."""
    widths = (784, 256, 256, 10)
    return [shape for i, o in zip(widths, widths[1:]) for shape in ((o, i), (o,))]


def run_torch():
    import torch

    def clipped(params):
        inner = torch.optim.AdamW(params, lr=1e-3, fused=True)

        class Clipped:
            def step(self):
                torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
                inner.step()

        return Clipped()

    forms = {
        "adamw": {
            "fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
            "foreach": lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True),
        },
        "adamw, clipped by norm": {"fused": clipped},
        "sgd_momentum": {
            "fused": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True),
            "foreach": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, foreach=True),
        },
        "radam": {"foreach": lambda p: torch.optim.RAdam(p, lr=1e-3, foreach=True)},
    }
    out = {"torch": torch.__version__}
    for size, shapes in (("resnet18", resnet()), ("mlp", mlp())):
        for name, kinds in forms.items():
            for kind, make in kinds.items():
                params = [torch.randn(s, device="cuda", requires_grad=True) for s in shapes]
                for p in params:
                    p.grad = torch.randn_like(p) * 0.01
                optimizer = make(params)
                for _ in range(5):
                    optimizer.step()
                best = (float("inf"), float("inf"))
                for _ in range(ROUNDS):
                    torch.cuda.synchronize()
                    begin = time.perf_counter()
                    for _ in range(STEPS):
                        optimizer.step()
                    queued = time.perf_counter() - begin
                    torch.cuda.synchronize()
                    done = time.perf_counter() - begin
                    best = min(best, (done * 1e3 / STEPS, queued * 1e3 / STEPS))
                out[f"{size}/{name}/{kind}"] = {"done_ms": best[0], "queued_ms": best[1]}
    a, b = (torch.randn(64 << 20, device="cuda") for _ in range(2))
    for _ in range(3):
        a.copy_(b)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        a.copy_(b)
    torch.cuda.synchronize()
    out["copy_gb_s"] = 20 * 2 * 4 * (64 << 20) / (time.perf_counter() - begin) / 1e9
    print(json.dumps(out))


def run_torch_models():
    """Milliseconds of forward and backward, channels last, in each precision; with fused AdamW in TF32."""
    import torch
    from resnet_step import ResNet18
    from torch import nn

    out = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}

    def classifier():
        sizes = (784, 256, 256)
        layers = [nn.Flatten()]
        for i, o in zip(sizes, sizes[1:]):
            layers += [nn.Linear(i, o), nn.ReLU(), nn.Dropout(0.1)]
        return nn.Sequential(*layers, nn.Linear(256, 10))

    cases = [(f"ResNet-18, width {w}, batch {b}", lambda w=w: ResNet18(w), (b, 3, 32, 32)) for w, b in ((16, 128), (64, 32), (64, 128))]
    cases.append(("MLP, batch 128", classifier, (128, 1, 28, 28)))
    for title, make, shape in cases:
        for precision, with_optimizer in (("fp32", False), ("tf32", False), ("bf16", False), ("tf32", True)):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            best = float("inf")
            for layout in (torch.channels_last, torch.contiguous_format):
                net = make().cuda().train().to(memory_format=layout)
                x = torch.randn(shape, device="cuda").to(memory_format=layout)
                y = torch.arange(shape[0], device="cuda") % 10
                optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

                def step():
                    optimizer.zero_grad(set_to_none=True)
                    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
                        loss = nn.functional.cross_entropy(net(x), y)
                    loss.backward()
                    if with_optimizer:
                        optimizer.step()

                for _ in range(5):
                    step()
                for _ in range(ROUNDS):
                    torch.cuda.synchronize()
                    begin = time.perf_counter()
                    for _ in range(20):
                        step()
                    torch.cuda.synchronize()
                    best = min(best, (time.perf_counter() - begin) * 1e3 / 20)
            out[f"{title}, {precision}" + (", adamw" if with_optimizer else "")] = best
    print(json.dumps(out))


def models(layers, gradients, speed, theirs):
    """Distances to the CPU in double precision, and times beside PyTorch's (the better of its two layouts)."""
    print("\n‖Δ‖/‖reference‖ against the CPU in double precision")
    for row in lines(layers) + lines(gradients):
        name, verdict = row.pop("name"), row.pop("ok", None)
        cells = ", ".join(f"{key} {value:.1e}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(f"{'ok' if verdict else 'FAILED':<7} {name:<48} {cells}")
    theirs = read(theirs)
    print(f"\nmilliseconds a pass, forward and backward; PyTorch {theirs.get('torch', '?')}, cuDNN {theirs.get('cudnn', '?')}")
    print(f"{'pass':<52} {'queued':>8} {'done':>8} {'images/s':>9} {'MiB':>6} {'PyTorch':>8} {'ratio':>6}")
    for row in lines(speed):
        if "error" in row:
            print(f"{row['name']:<52} {row['error'][:90]}")
            continue
        # NeuroPlastic with diagnostics is held to fused AdamW.
        other = theirs.get(row["name"].replace("neuroplastic", "adamw").replace(", one by one", ""))
        beside = f"{other:8.3f} {other / row['done_ms']:6.2f}" if other else ""
        print(f"{row['name']:<52} {row['queued_ms']:8.3f} {row['done_ms']:8.3f} {row['images_per_s']:9.0f} {row['mib']:6} {beside}")


def profile(path):
    """Sums over the operations of each kind; `name` of a row is "width, precision, number"."""
    sums, columns = {}, []
    for row in lines(path):
        column = row["name"].rsplit(", ", 1)[0]
        if column not in columns:
            columns.append(column)
        cells = sums.setdefault(row["what"], {})
        cells[column] = cells.get(column, 0.0) + row["ms"]
    if not sums:
        return
    print("\nmilliseconds of a training step's operations, each timed by itself")
    print(f"{'operation':<20}" + "".join(f"{column:>16}" for column in columns))
    sums["all"] = {column: sum(cells.get(column, 0.0) for cells in sums.values()) for column in columns}
    for what, cells in sorted(sums.items(), key=lambda item: -item[1].get(columns[0], 0.0)):
        print(f"{what:<20}" + "".join(f"{cells.get(column, 0.0):16.3f}" for column in columns))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        print(f"nothing in {path}: {error}")
        return {}


def lines(path):
    rows = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
    except (OSError, ValueError) as error:
        # The last line is cut off where time ran out.
        print(f"{len(rows)} rows in {path}: {error}")
    return rows


def table(ours, theirs):
    ours, theirs = {row["name"]: row for row in lines(ours)}, read(theirs)
    print(f"milliseconds a step, best of {ROUNDS} times {STEPS} (fewer where a step takes long); PyTorch {theirs.get('torch', '?')}, "
          f"copy {theirs.get('copy_gb_s', float('nan')):.0f} GB/s")
    print(f"{'step':<36} {'queued':>8} {'done':>8} {'GB/s':>6} {'waits':>5} {'fused':>8} {'foreach':>8} {'ratio':>6}")
    for name, row in ours.items():
        if "error" in row:
            print(f"{name:<36} {row['error'][:90]}")
            continue
        queued, done, rate = row["queued_ms"], row["done_ms"], row.get("gb_s")
        beside = [theirs.get(f"{name}/{kind}", {}).get("done_ms") for kind in ("fused", "foreach")]
        cells = [f"{x:8.3f}" if x else f"{'':8}" for x in beside]
        best = min((x for x in beside if x), default=None)
        ratio = f"{done / best:6.2f}" if best else ""
        waits = "yes" if row.get("waits") else "no"
        print(f"{name:<36} {queued:8.3f} {done:8.3f} {rate and f'{rate:6.0f}' or '':>6} {waits:>5} {cells[0]} {cells[1]} {ratio}")


if sys.argv[1:2] == ["torch"] and len(sys.argv) == 2:
    run_torch()
elif sys.argv[1:2] == ["table"] and len(sys.argv) == 4:
    table(sys.argv[2], sys.argv[3])
elif sys.argv[1:2] == ["torch-models"] and len(sys.argv) == 2:
    run_torch_models()
elif sys.argv[1:2] == ["profile"] and len(sys.argv) == 3:
    profile(sys.argv[2])
elif sys.argv[1:2] == ["models"] and len(sys.argv) == 6:
    models(*sys.argv[2:])
else:
    sys.exit(__doc__)
