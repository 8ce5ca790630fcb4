"""Makes golden trajectories, and checks those there are against the implementations they name.

    pip install torch==2.15.0 numpy pytorch_optimizer==4.1.0 schedulefree prodigyopt
    python golden.py make yogi qhadam           # writes yogi.safetensors and qhadam.safetensors to tests/golden
    python golden.py check FILE-OR-FOLDER ...   # takes each file's inputs, and compares everything else with what its reference makes of them
    python golden.py list                       # references, and the files that `make` knows

A trajectory is parameters, their gradients at twelve steps, and what an implementation that is not ours makes of them; `src/conform/mod.rs` has the form of a
file. Inputs come from a generator whose output is fixed (MT19937), seeded with the file's name, so that the same name gives the same inputs anywhere. A
package is needed for its own optimizers only. The reference of NeuroPlastic is `neuroplastic.py`, written from the method's description.

A new optimizer takes a row in REFERENCES, whose implementation counts, and one in FILES, with settings off their defaults so that each of them shows.
"""
import argparse
import functools
import importlib
import importlib.metadata
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

import neuroplastic

STEPS = 12
# In model order: two convolutions with a norm between them, two linear layers.
SHAPES = {
    "conv1.weight": (6, 3, 3, 3), "bn1.weight": (6,), "bn1.bias": (6,), "conv2.weight": (8, 6, 3, 3),
    "fc1.weight": (12, 16), "fc1.bias": (12,), "head.weight": (5, 12), "head.bias": (5,),
}
MATRICES = {name: shape for name, shape in SHAPES.items() if len(shape) == 2}

# Module → names in files → its classes.
REFERENCES = {
    "torch.optim": {
        "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "adamax": "Adamax", "adagrad": "Adagrad",
        "adadelta": "Adadelta", "rmsprop": "RMSprop", "rprop": "Rprop", "asgd": "ASGD", "adafactor": "Adafactor", "muon": "Muon",
    },
    "pytorch_optimizer": {
        "lion": "Lion", "adabelief": "AdaBelief", "adan": "Adan", "lamb": "Lamb", "lars": "LARS", "shampoo": "Shampoo", "soap": "SOAP",
        "yogi": "Yogi", "qhadam": "QHAdam", "ademamix": "AdEMAMix", "adopt": "ADOPT", "came": "CAME", "dadapt_adam": "DAdaptAdam",
        "dadapt_sgd": "DAdaptSGD", "grams": "Grams", "grokfast_adamw": "GrokFastAdamW", "laprop": "LaProp", "madgrad": "MADGRAD",
        "mars_adamw": "MARS", "signum": "SignSGD", "stable_adamw": "StableAdamW", "schedule_free_radam": "ScheduleFreeRAdam",
        "normuon": "NorMuon", "adamuon": "AdaMuon", "scion": "SCION",
    },
    "schedulefree": {"schedule_free_sgd": "SGDScheduleFree", "schedule_free_adamw": "AdamWScheduleFree"},
    "prodigyopt": {"prodigy": "Prodigy"},
}

# Name of a file → its optimizer and the arguments that are not the reference's defaults.
FILES = {
    "adabelief": ("adabelief", {"lr": 0.01, "weight_decay": 0.01}),
    "adadelta": ("adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
    "adafactor": ("adafactor", {"lr": 0.01}),
    "adagrad": ("adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    "adam_wd": ("adam", {"lr": 0.01, "betas": [0.8, 0.95], "weight_decay": 0.1}),
    "adamax": ("adamax", {"lr": 0.01, "weight_decay": 0.05}),
    "adamw": ("adamw", {"lr": 0.01, "weight_decay": 0.1}),
    "adan": ("adan", {"lr": 0.01, "weight_decay": 0.02}),
    "asgd": ("asgd", {"lr": 0.01}),
    "lamb": ("lamb", {"lr": 0.01, "weight_decay": 0.01}),
    "lars": ("lars", {"lr": 0.1, "weight_decay": 1e-4}),
    "lion": ("lion", {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.1}),
    "muon": ("muon", {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True}),
    "nadam_wd": ("nadam", {"lr": 0.01, "weight_decay": 0.05, "momentum_decay": 0.01}),
    "prodigy": ("prodigy", {"lr": 1.0, "weight_decay": 0.01}),
    "qhadam": ("qhadam", {"lr": 0.01, "betas": [0.9, 0.99], "nus": [0.7, 0.9], "weight_decay": 0.05}),
    "radam_wd": ("radam", {"lr": 0.01, "weight_decay": 0.05, "betas": [0.9, 0.99]}),
    "rmsprop_centered_momentum": (
        "rmsprop", {"lr": 0.01, "alpha": 0.95, "centered": True, "momentum": 0.9, "weight_decay": 0.01},
    ),
    "rprop": ("rprop", {"lr": 0.01}),
    "schedule_free_adamw": ("schedule_free_adamw", {"lr": 0.01, "weight_decay": 0.01, "warmup_steps": 4}),
    "schedule_free_sgd": ("schedule_free_sgd", {"lr": 0.1, "momentum": 0.9}),
    "sgd_nesterov_wd": ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
    "shampoo": ("shampoo", {"lr": 0.01}),
    "soap": ("soap", {"lr": 0.003, "weight_decay": 0.01, "precondition_frequency": 2}),
    "yogi": ("yogi", {"lr": 0.01, "betas": [0.9, 0.99], "initial_accumulator": 1e-4, "weight_decay": 0.05}),
}


class Unknown(Exception):
    """An optimizer that has no row in REFERENCES."""


def reference(optimizer):
    """The module and the class that count for an optimizer; None where there is neither."""
    return next(((module, names[optimizer]) for module, names in REFERENCES.items() if optimizer in names), None)


def construct(optimizer, params, config):
    """An optimizer as a file's metadata describe it."""
    config = dict(config)
    wrapper, base = config.pop("wrapper", None), config.pop("base", None)
    found = reference(base or optimizer)
    if not found:
        raise Unknown(f"no reference of `{base or optimizer}`")
    module = importlib.import_module(found[0])
    make = getattr(module, found[1])
    if optimizer in ("normuon", "adamuon", "scion"):
        # bfloat16, their default, rounds as the processor does.
        iteration = "zero_power_via_newton_schulz_5"
        for home in {sys.modules[parent.__module__] for parent in make.__mro__}:
            if hasattr(home, iteration):
                setattr(home, iteration, functools.partial(getattr(home, iteration), dtype=torch.float32))
    if optimizer in ("normuon", "adamuon"):
        params = [{"params": params, "use_muon": True}]
    inner = make(params, **{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
    if wrapper is None or "ema" in wrapper:
        return inner
    others = importlib.import_module("pytorch_optimizer")
    if wrapper == "orthograd":
        return others.OrthoGrad(inner)
    (kind, settings), = wrapper.items()
    return {"lookahead": others.Lookahead, "schedule_free": others.ScheduleFreeWrapper}[kind](inner, **settings)


def trajectory(spec, tensors):
    """All that the reference makes of the inputs in `tensors`: `param.T.NAME`, and `eval.NAME` where it keeps an average."""
    params = {name: torch.nn.Parameter(tensors[f"init.{name}"].clone()) for name in spec["params"]}
    optimizer = construct(spec["optimizer"], list(params.values()), spec["config"])
    wrapper = spec["config"].get("wrapper")
    averages = {name: p.detach().clone() for name, p in params.items()} if wrapper and "ema" in wrapper else None
    evaluates = hasattr(optimizer, "eval") and hasattr(optimizer, "train")
    if evaluates:
        optimizer.train()
    out = {}
    for t in range(spec["steps"]):
        for name, p in params.items():
            gradient = tensors.get(f"grad.{t}.{name}")
            p.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        for name, p in params.items():
            out[f"param.{t}.{name}"] = p.detach().clone()
            if averages:
                averages[name].lerp_(p.detach(), 1 - wrapper["ema"]["decay"])
    if evaluates:
        optimizer.eval()
        averages = {name: p.detach().clone() for name, p in params.items()}
    return out | {f"eval.{name}": average for name, average in (averages or {}).items()}


def inputs(name, params, steps, dtype):
    """Initial values and gradients. As in training, gradients share a direction, for the rules that estimate a distance from it, under noise, and shrink; that of the
    first element of each tensor is 0 for two steps, so that its state is still empty when the others' is not."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    tensors = {f"init.{p}": 0.3 * draw.standard_normal(SHAPES[p]) for p in params}
    direction = {p: draw.standard_normal(SHAPES[p]) for p in params}
    for t in range(steps):
        for p in params:
            gradient = 0.15 * 0.88**t * (0.7 * direction[p] + draw.standard_normal(SHAPES[p]))
            if t < 2:
                gradient.flat[0] = 0.0
            tensors[f"grad.{t}.{p}"] = gradient
    return {name: torch.from_numpy(x).to(dtype) for name, x in tensors.items()}


def source(optimizer):
    """Which implementation, and its version."""
    module = reference(optimizer)[0].split(".")[0]
    return f"{module} {torch.__version__ if module == 'torch' else importlib.metadata.version(module)}"


def make(name):
    """Tensors and metadata of a file."""
    if name in neuroplastic.FILES:
        spec = neuroplastic.spec(name, list(SHAPES))
        tensors = inputs(name, spec["params"], spec["steps_per_epoch"] * spec["epochs"], getattr(torch, spec["dtype"]))
        neuroplastic.leave_gaps(name, tensors)
        found, diagnostics = neuroplastic.trajectory(spec, tensors)
        return tensors | found, {"spec": spec, "diagnostics": diagnostics}
    optimizer, config = FILES[name]
    params = list(MATRICES if optimizer in ("muon", "normuon", "adamuon", "scion") else SHAPES)
    spec = {"optimizer": optimizer, "config": config, "params": params, "dtype": "float32", "steps": STEPS, "source": source(optimizer)}
    tensors = inputs(name, params, STEPS, torch.float32)
    return tensors | trajectory(spec, tensors), {"spec": spec}


TYPES = {"F32": torch.float32, "F64": torch.float64}
# |Δ| ≤ absolute + relative · |x|, as `src/conform/replay.rs`.
TOLERANCES = {torch.float32: (2e-6, 2e-5), torch.float64: (1e-10, 1e-9)}


def write(path, tensors, metadata):
    """A safetensors file whose bytes depend on its content alone: tensors and metadata by name."""
    header, data = {"__metadata__": {key: json.dumps(metadata[key]) for key in sorted(metadata)}}, b""
    for name in sorted(tensors):
        (kind,) = (kind for kind, dtype in TYPES.items() if dtype == tensors[name].dtype)
        raw = tensors[name].contiguous().numpy().tobytes()
        header[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path):
    """Tensors and metadata of a safetensors file."""
    raw = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), memoryview(raw)[8 + size :]
    metadata = {key: json.loads(text) for key, text in header.pop("__metadata__").items()}
    tensors = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=TYPES[about["dtype"]]).clone().reshape(about["shape"])
    return tensors, metadata


def undetermined(optimizer, shape):
    """Whether the reference leaves a tensor to rounding: SOAP's first covariance is singular along a dimension that is longer than all others together, and which
    basis of its null space an eigensolver gives is no function of the matrix."""
    return optimizer == "soap" and len(shape) > 1 and any(n * n > shape.numel() for n in shape)


def compare(optimizer, tensors, found):
    """How many numbers are compared, and the largest deviation as a share of its tolerance, with its place."""
    worst, compared = (-1.0, "nothing"), 0
    for name, expected in tensors.items():
        if name.split(".")[0] in ("init", "grad") or undetermined(optimizer, expected.shape):
            continue
        got, (absolute, relative) = found[name], TOLERANCES[expected.dtype]
        share = ((got - expected).abs() / (absolute + relative * expected.abs())).double().nan_to_num(float("inf")).max().item()
        worst, compared = max(worst, (share, name)), compared + expected.numel()
    return compared, worst


def check(path):
    """Prints a line on a file, and returns its first word: `ok`, `DIFFERS`, or `skipped` where the reference is not at hand."""
    tensors, metadata = read(path)
    spec, diagnostics = metadata["spec"], None
    try:
        if spec["optimizer"] == "neuroplastic":
            found, diagnostics = neuroplastic.trajectory(spec, tensors)
        else:
            found = trajectory(spec, tensors)
    except (Unknown, ImportError) as error:
        print(f"skipped  {path.name}: {error}")
        return "skipped"
    compared, worst = compare(spec["optimizer"], tensors, found)
    if diagnostics is not None:
        absolute, relative = TOLERANCES[getattr(torch, spec["dtype"])]
        worst = max(worst, neuroplastic.compare(metadata["diagnostics"], diagnostics, absolute, relative))
    share, place = worst
    verdict = "ok" if share <= 1 else "DIFFERS"
    print(f"{verdict:<8} {path.name}: {compared} numbers, at most {100 * share:.1f} % of the tolerance, at `{place}`")
    return verdict


def main():
    """The commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_make = commands.add_parser("make", help="write files")
    of_make.add_argument("name", nargs="+", help="as `list` has them")
    of_make.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "golden", help="folder [default: tests/golden]")
    of_check = commands.add_parser("check", help="compare files with what their references make of their inputs")
    of_check.add_argument("path", nargs="+", type=Path, help="a file, or a folder with files below it")
    commands.add_parser("list", help="print what there is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "list":
        for module, names in REFERENCES.items():
            print(f"{module}: {', '.join(sorted(names))}")
        print(f"files: {', '.join(sorted([*FILES, *neuroplastic.FILES]))}")
    elif arguments.command == "make":
        for name in arguments.name:
            if name not in FILES and name not in neuroplastic.FILES:
                sys.exit(f"error: expected the name of a file, got `{name}`\nhint: `list` shows them; a new one takes a row in FILES")
            path = arguments.out / f"{name}.safetensors"
            write(path, *make(name))
            print(path)
    else:
        files = []
        for path in arguments.path:
            if not path.exists():
                sys.exit(f"error: {path}: there is no such file or folder")
            files += sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
        verdicts = [check(file) for file in files]
        if differ := verdicts.count("DIFFERS"):
            sys.exit(f"error: {differ} of {len(files)} files differ")
        print(f"{verdicts.count('ok')} of {len(files)} files agree, {verdicts.count('skipped')} skipped")


if __name__ == "__main__":
    main()
