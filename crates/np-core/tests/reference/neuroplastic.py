"""NeuroPlastic in PyTorch, for checking alone: written from the method's formulas, one tensor at a time, a stage a function, nothing fused.

`golden.py` uses it for `neuroplastic` files, whose settings bear the names of the published PyTorch project. It shares no code with that project or with the
crate: a trajectory on which all three agree is the method's.
"""
import math

import torch

PLASTICITY = {
    "mode": "rule_based", "hybrid_base": "classic", "modulation_target": "gain", "layer_scope": "all", "phase_scope": "full",
    "modulation_strength": 0.15, "modulation_max_ratio": 0.25, "lr_controller_mode": "off", "controller_alpha": 0.1, "controller_low": 0.8,
    "controller_high": 1.2, "base_momentum": 0.9, "base_beta2": 0.999, "base_eps": 1e-8, "activity_weight": 0.4, "gradient_weight": 0.4,
    "memory_weight": 0.2, "plasticity_scale": 1.0, "warmup_epochs": 0, "bounded_residual": False, "residual_max_ratio": 0.5,
    "orthogonal_residual": False, "orthogonal_lambda": 0.1, "orthogonal_max_ratio": 0.5, "orthogonal_normalization": "raw",
    "orthogonal_schedule": "constant", "orthogonal_late_start_fraction": 0.3, "min_alpha": 0.2, "max_alpha": 2.0,
    "saturation_threshold_fraction": 0.05, "parameterwise": True, "eps": 1e-8,
}
HOMEOSTATIC = {
    "max_update_norm": 1.0, "target_rms": 0.02, "adaptation_rate": 0.01, "early_target_rms_scale": 1.0, "middle_target_rms_scale": 1.0,
    "late_target_rms_scale": 1.0, "eps": 1e-8,
}
TINY = 1e-12

# Name of a file → what in its metadata differs from `spec`'s defaults.
FILES = {
    "grad_only": {"plasticity": {"mode": "ablation_grad_only"}},
    "rule_decoupled_wd": {"weight_decay": 0.05, "decoupled_weight_decay": True},
    "rule_default": {},
    "rule_f64": {"dtype": "float64"},
    "rule_missing_and_zero_grads": {},
    "rule_paper_best": {"plasticity": {"plasticity_scale": 2.0, "warmup_epochs": 2}},
    "bounded_residual": {"plasticity": {"bounded_residual": True}},
    "orthogonal_match_norm": {
        "plasticity": {"orthogonal_residual": True, "orthogonal_normalization": "match_grad_norm", "orthogonal_lambda": 0.3},
    },
    "hybrid_adamw_gain": {"lr": 0.01, "weight_decay": 0.01, "plasticity": {"hybrid_base": "adamw"}},
    "hybrid_sgd_trust": {
        "lr": 0.05, "plasticity": {"hybrid_base": "sgd_momentum", "modulation_target": "trust_ratio", "modulation_strength": 0.8},
    },
    "controller_layerwise": {"plasticity": {"lr_controller_mode": "layerwise", "controller_alpha": 0.5}},
}


def leave_gaps(name, tensors):
    """Takes gradients out, and makes one zero, where the file's name says so."""
    if name == "rule_missing_and_zero_grads":
        del tensors["grad.0.head.bias"], tensors["grad.4.fc1.weight"]
        tensors["grad.5.conv2.weight"].zero_()
        tensors["grad.0.bn1.bias"].zero_()


def spec(name, params):
    """Metadata of a file."""
    settings = {
        "optimizer": "neuroplastic", "lr": 0.1, "weight_decay": 0.0, "decoupled_weight_decay": False, "plasticity": {}, "homeostatic": {},
        "steps_per_epoch": 3, "epochs": 4, "lr_decay_per_epoch": 1.0, "params": params, "dtype": "float32",
    }
    return settings | FILES[name]


def norm(x):
    return x.square().sum().sqrt()


def ratio(above, below, none=0.0):
    return above / below if below else none


def clip(x, low, high):
    return min(max(x, low), high)


def at_most(d, bound, eps):
    """d, made shorter where its norm is above the bound."""
    length = norm(d)
    return d * (bound / (length + eps)) if length > bound else d


class Place:
    """Where a tensor stands in a model of n: layer groups go by index, the last two tensors are the classifier."""

    def __init__(self, index, n, dims):
        classifier = n - 2
        self.conv_only, self.all = dims == 4, True
        self.classifier_only = self.head_only = index >= classifier
        self.early_blocks = self.early = index < math.ceil(classifier / 2)
        self.late_blocks = self.late = classifier // 2 <= index < classifier
        thirds = [math.ceil(n / 3), math.ceil(2 * n / 3)]
        self.third = "early" if index < thirds[0] else "middle" if index < thirds[1] else "late"

    def group(self):
        names = [(self.classifier_only, "classifier"), (self.early_blocks, "early_blocks"), (self.late_blocks, "late_blocks")]
        return next((name for inside, name in names if inside), "stem")


SCOPES = {"conv": "conv_only", "classifier": "classifier_only", "early_blocks": "early_blocks", "late_blocks": "late_blocks"}
GROUPS = ["stem", "classifier", "early_blocks", "late_blocks"]


def coefficients(k, g, state, epoch):
    """α and α_g of a tensor, after its traces took the gradient in."""
    a, m, v = state["activity_trace"], state["momentum"], state["variance"]
    a.mul_(0.95).add_(0.05 * g.abs())
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.99).add_(0.01 * g.square())

    def by_mean(x):
        return x / (x.mean() + k["eps"])

    gradient = by_mean(g.abs())
    full = (
        k["activity_weight"] * by_mean(a)
        + k["gradient_weight"] * gradient
        + k["memory_weight"] * by_mean(m.abs() / (v.sqrt() + k["eps"]))
    )
    if not k["parameterwise"]:
        gradient, full = gradient.mean().expand(g.shape), full.mean().expand(g.shape)
    gradient, full = (x.clamp(k["min_alpha"], k["max_alpha"]) for x in (gradient, full))
    if k["mode"] == "ablation_grad_only":
        return gradient, gradient
    gate = clip((epoch - 1) / k["warmup_epochs"], 0.0, 1.0) if k["warmup_epochs"] else 1.0
    return gradient + gate * k["plasticity_scale"] * (full - gradient), gradient


def signal(k, alpha, alpha_g):
    """ζ of a tensor."""
    if k["mode"] == "ablation_grad_only":
        return 0.0
    zeta = (alpha.clamp(min=k["eps"]) / alpha_g.clamp(min=k["eps"])).log().mean().item()
    return zeta if math.isfinite(zeta) else 0.0


def multipliers(k, zetas, places):
    """The controller's signal and multiplier for each tensor with a gradient."""
    mode = k["lr_controller_mode"]
    if mode == "off":
        return {name: (0.0, 1.0) for name in zetas}
    groups = {name: "all" if mode == "global" else places[name].group() for name in zetas}
    out = {}
    for name, group in groups.items():
        if mode == "classifier_only" and group != "classifier":
            out[name] = (0.0, 1.0)
            continue
        members = [zetas[other] for other in zetas if groups[other] == group]
        mean = sum(members) / len(members)
        out[name] = (mean, clip(1 + k["controller_alpha"] * mean, k["controller_low"], k["controller_high"]))
    return out


def orthogonal(k, g, alpha, alpha_g, progress, seen):
    """The orthogonal residual's d."""
    q = ((alpha - alpha_g) * g).nan_to_num(0.0, 0.0, 0.0)
    g2 = g.square().sum()
    seen.add("orthogonal_tensors", 1)
    if g2 <= k["eps"]:
        seen.add("orthogonal_skipped", 1)
        return torch.zeros_like(g)
    o = (q - (q * g).sum() / (g2 + k["eps"]) * g).nan_to_num(0.0, 0.0, 0.0)
    if k["orthogonal_normalization"] == "match_grad_norm" and norm(o) > k["eps"]:
        o = o * (norm(g) / (norm(o) + k["eps"]))
    late = k["orthogonal_late_start_fraction"]
    schedule = {
        "constant": lambda: 1.0,
        "late": lambda: 0.0 if progress <= late else min((progress - late) / (1 - late), 1.0),
        "cosine": lambda: 0.5 * (1 - math.cos(math.pi * clip(progress, 0.0, 1.0))),
    }[k["orthogonal_schedule"]]()
    for name, x in [("orthogonal_signal", q), ("orthogonal_residual", o), ("orthogonal_gradient", g)]:
        seen.square(name, x)
    seen.add("q·g", (q.double() * g.double()).sum().item())
    seen.add("o·g", (o.double() * g.double()).sum().item())
    return at_most(k["orthogonal_lambda"] * schedule * o, k["orthogonal_max_ratio"] * norm(g), k["eps"])


def hybrid(k, g, theta, state, alpha, weight_decay, place, progress, seen):
    """A hybrid's u and d."""
    beta1 = k["base_momentum"]
    if k["hybrid_base"] == "adamw":
        first, second = state["base_momentum"], state["base_variance"]
        first.mul_(beta1).add_((1 - beta1) * g)
        second.mul_(k["base_beta2"]).add_((1 - k["base_beta2"]) * g.square())
        momentum = first / (1 - beta1 ** state["steps"])
        base = momentum / ((second / (1 - k["base_beta2"] ** state["steps"])).sqrt() + k["base_eps"])
    else:
        momentum = base = state["base_momentum"].mul_(beta1).add_(g + weight_decay * theta).clone()
    phase = {"full": True, "early": progress <= 0.3, "middle": 0.3 < progress < 0.7, "late": progress >= 0.7}[k["phase_scope"]]
    gate = k["modulation_strength"] * phase * getattr(place, k["layer_scope"])
    target = {
        "gain": lambda: base,
        "momentum": lambda: momentum,
        "trust_ratio": lambda: ((norm(theta) / (norm(base) + TINY)).clamp(0.5, 1.5) - 1) * base,
    }[k["modulation_target"]]()
    d = at_most(gate * (alpha - 1) * target, k["modulation_max_ratio"] * norm(base), TINY)
    for name, scope in [("", "all"), *((f"_{name}", scope) for name, scope in SCOPES.items())]:
        if getattr(place, scope):
            seen.square(f"modulation{name}", d)
            seen.add(f"modulation_elements{name}", d.numel())
            seen.add(f"modulation_active{name}", d.numel() * (gate > 0))
    return base + d, d


class Seen:
    """Sums over an epoch."""

    def __init__(self):
        self.sums, self.alphas, self.controlled = {}, [], []

    def add(self, name, x):
        self.sums[name] = self.sums.get(name, 0.0) + x

    def square(self, name, x):
        self.add(name, x.double().square().sum().item())

    def of(self, name):
        return self.sums.get(name, 0.0)

    def report(self, k):
        """Diagnostics, but for the median of α, which the published project only estimates."""
        alpha, root = torch.cat(self.alphas).double(), lambda name: math.sqrt(self.of(name))
        low, high = k["min_alpha"], k["max_alpha"]
        margin = k["saturation_threshold_fraction"] * (high - low)
        out = {
            "alpha_mean": alpha.mean(), "alpha_std": alpha.std(correction=0), "alpha_min": alpha.min(), "alpha_max": alpha.max(),
            "alpha_fraction_near_min": (alpha <= low + margin).double().mean(),
            "alpha_fraction_near_max": (alpha >= high - margin).double().mean(),
        }
        out = {name: x.item() for name, x in out.items()}
        for name in ["raw_gradient", "parameter", "raw_update", "effective_update", "plasticity_delta", "weight_decay_term"]:
            out[f"{name}_norm"] = root(name)
        out["effective_to_gradient_norm_ratio"] = ratio(root("effective_update"), root("raw_gradient"))
        out["stabilization_norm_ratio"] = ratio(root("effective_update"), root("raw_update"))
        out["orthogonal_signal_norm"], out["orthogonal_residual_norm"] = root("orthogonal_signal"), root("orthogonal_residual")
        for name, dot, x in [("plasticity", "q·g", "orthogonal_signal"), ("orthogonal", "o·g", "orthogonal_residual")]:
            out[f"cosine_similarity_grad_{name}"] = ratio(self.of(dot), root(x) * root("orthogonal_gradient"))
        out["orthogonal_skip_fraction"] = ratio(self.of("orthogonal_skipped"), self.of("orthogonal_tensors"))
        for name in ["", *(f"_{name}" for name in SCOPES)]:
            out[f"modulation_active_fraction{name}"] = ratio(self.of(f"modulation_active{name}"), self.of(f"modulation_elements{name}"))
            if name:
                out[f"modulation_magnitude{name}"] = root(f"modulation{name}")
        for i, name in [(1, "signal"), (2, "multiplier")]:
            values = [entry[i] for entry in self.controlled]
            out |= {f"controller_{name}_{f.__name__}": f(values) for f in (min, max)}
            out[f"controller_{name}_mean"] = sum(values) / len(values)
            for group in GROUPS:
                members = [entry[i] for entry in self.controlled if entry[0] == group]
                out[f"controller_{name}_mean_{group}"] = ratio(sum(members), len(members), i - 1.0)
        on = k["lr_controller_mode"] != "off"
        for name, hit in [("low", lambda c: c <= k["controller_low"]), ("high", lambda c: c >= k["controller_high"])]:
            out[f"controller_clamp_fraction_{name}"] = sum(on and hit(c) for _, _, c in self.controlled) / len(self.controlled)
        return out


def step(settings, params, grads, states, epoch, seen):
    """One step of all tensors that have a gradient."""
    k, h = PLASTICITY | settings["plasticity"], HOMEOSTATIC | settings["homeostatic"]
    eta = settings["lr"] * settings["lr_decay_per_epoch"] ** (epoch - 1)
    wd, progress, base = settings["weight_decay"], epoch / settings["epochs"], k["hybrid_base"]
    decoupled = base == "adamw" or (base == "classic" and settings["decoupled_weight_decay"])
    names = list(params)
    places = {name: Place(i, len(names), params[name].dim()) for i, name in enumerate(names)}
    alphas = {name: coefficients(k, g, states[name], epoch) for name, g in grads.items()}
    zetas = {name: signal(k, *pair) for name, pair in alphas.items()}
    controls = multipliers(k, zetas, places)
    for name, g in grads.items():
        theta, state, place, (alpha, alpha_g) = params[name], states[name], places[name], alphas[name]
        zeta, c = controls[name]
        state["steps"] += 1
        if base != "sgd_momentum":
            seen.square("weight_decay_term", wd * theta)
        before = theta.clone()
        if decoupled:
            theta.sub_(eta * c * wd * theta)
        seen.square("parameter", theta)
        if base != "classic":
            u, d = hybrid(k, g, before, state, alpha, wd, place, progress, seen)
        elif k["orthogonal_residual"]:
            d = orthogonal(k, g, alpha, alpha_g, progress, seen)
            u = g + d
        elif k["bounded_residual"]:
            d = at_most((alpha - 1) * g, k["residual_max_ratio"] * norm(g), TINY)
            u = g + d
        else:
            d = (alpha - alpha_g) * g
            u = alpha_g * g + d
        if base == "classic" and not decoupled:
            u = u + wd * theta
        seen.square("raw_gradient", g)
        seen.square("raw_update", u)
        seen.square("plasticity_delta", d)
        u = at_most(u, h["max_update_norm"], h["eps"])
        rms = (u.square().mean() + h["eps"]).sqrt()
        gain = (1 + h["adaptation_rate"] * (h["target_rms"] * h[f"{place.third}_target_rms_scale"] - rms)).clamp(0.5, 1.5)
        theta.sub_(eta * c * gain * u)
        seen.square("effective_update", c * gain * u)
        seen.alphas.append(alpha.flatten())
        seen.controlled.append((place.group(), zeta, c))


def trajectory(settings, tensors):
    """What the method makes of the inputs in `tensors`: parameters after each step, state after the last, and diagnostics, one object an epoch."""
    params = {name: tensors[f"init.{name}"].clone() for name in settings["params"]}
    k = PLASTICITY | settings["plasticity"]
    kinds = ["activity_trace", "momentum", "variance"]
    kinds += {"classic": [], "sgd_momentum": ["base_momentum"], "adamw": ["base_momentum", "base_variance"]}[k["hybrid_base"]]
    states = {name: {"steps": 0} | {kind: torch.zeros_like(p) for kind in kinds} for name, p in params.items()}
    out, diagnostics = {}, []
    for epoch in range(1, settings["epochs"] + 1):
        seen = Seen()
        for t in range((epoch - 1) * settings["steps_per_epoch"], epoch * settings["steps_per_epoch"]):
            grads = {name: tensors[f"grad.{t}.{name}"] for name in params if f"grad.{t}.{name}" in tensors}
            step(settings, params, grads, states, epoch, seen)
            out |= {f"param.{t}.{name}": p.clone() for name, p in params.items()}
        diagnostics.append(seen.report(k))
    return out | {f"state.{kind}.{name}": state[kind] for name, state in states.items() for kind in kinds}, diagnostics


def compare(expected, found, absolute, relative):
    """The largest deviation of diagnostics as a share of its tolerance, and its place."""
    worst = (-1.0, "nothing")
    for epoch, (theirs, ours) in enumerate(zip(expected, found, strict=True), 1):
        for name, x in theirs.items():
            if name != "alpha_median":
                worst = max(worst, (abs(ours[name] - x) / (absolute + relative * abs(x)), f"diagnostics.{epoch}.{name}"))
    return worst
