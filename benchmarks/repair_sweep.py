"""Seeded damages to files of known networks, repaired without inventing anything.

    python benchmarks/repair_sweep.py --cases 200 --seed 0

A fixable damage counts as fixed if the repaired file, loaded strictly into the network that the
plan names, gives the outputs of the one that it was made from. An unfixable one counts as refused
if nothing is written.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

import archfind
from archfind.errors import ArchfindError
from archfind.providers import provider

State = dict[str, Tensor]
NETWORKS = (
    "timm/test_vit", "timm/test_resnet", "timm/resnet10t", "timm/vit_tiny_patch16_224",
    "timm/mobilenetv3_small_050", "timm/convnext_atto", "torchvision/resnet18",
    "torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1", "torchvision/mobilenet_v2",
    "timm/deit_tiny_patch16_224", "timm/mixer_s32_224", "timm/test_convnext",
    "timm/efficientnet_b0", "timm/regnetx_002", "torchvision/densenet121",
    "timm/swin_tiny_patch4_window7_224", "timm/levit_128s",
)  # fmt: skip


def prefix(state: State, draw: random.Random, module: nn.Module) -> object:
    word = draw.choice(["module.", "model.", "net.backbone.", "_orig_mod.", "student.", "xyz."])
    return {word + key: value for key, value in state.items()}


def some_prefixed(state: State, draw: random.Random, module: nn.Module) -> object:
    word = draw.choice(["module.", "model.", "ema.", "layers."])
    share = draw.uniform(0.02, 0.15)
    return {(word + k if draw.random() < share else k): v for k, v in state.items()}


def wrapper(state: State, draw: random.Random, module: nn.Module) -> object:
    word = draw.choice(["state_dict", "model", "params_ema", "net", "my_weights"])
    other = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(9)}}}}
    inner: object = {word: state, **(other if draw.random() < 0.5 else {})}
    return {"checkpoint": inner} if draw.random() < 0.3 else inner


def dialect(state: State, draw: random.Random, module: nn.Module) -> object:
    """TensorFlow's or old BERT's names of the norms' tensors."""
    words = draw.choice([
        {"weight": "gamma", "bias": "beta"},
        {"weight": "scale", "bias": "offset"},
        {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
         "running_var": "moving_variance"},
    ])  # fmt: skip
    norms = {n for n, m in module.named_modules() if "Norm" in type(m).__name__}
    out: State = {}
    for key, value in state.items():
        parent, _, leaf = key.rpartition(".")
        out[f"{parent}.{words.get(leaf, leaf)}" if parent in norms else key] = value
    return out


def spelling(state: State, draw: random.Random, module: nn.Module) -> object:
    old, new = draw.choice([(".", "/"), (".", "_"), (".", "__")])
    return {key.replace(old, new): value for key, value in state.items()}


def renamed_part(state: State, draw: random.Random, module: nn.Module) -> object:
    """One child module under another name."""
    tops = Counter(key.partition(".")[0] for key in state)
    small = [top for top, n in tops.items() if n <= 0.15 * len(state) and not top.isdigit()]
    top = draw.choice(small)
    word = draw.choice(["final_layer", "my_" + top, "x_" + top])
    return {
        (word + key[len(top) :] if key.partition(".")[0] == top else key): value
        for key, value in state.items()
    }


def transposed_linears(state: State, draw: random.Random, module: nn.Module) -> object:
    linears = {f"{n}.weight" for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    return {k: v.t().contiguous() if k in linears else v for k, v in state.items()}


def transposed_convs(state: State, draw: random.Random, module: nn.Module) -> object:
    """[h, w, in, out], as TensorFlow keeps them; depthwise as [h, w, channels, 1]."""
    out: State = {}
    convs = {f"{n}.weight": m for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    for key, value in state.items():
        layer = convs.get(key)
        depthwise = layer is not None and layer.groups > 1 and value.shape[1] == 1
        order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        out[key] = value.permute(order).contiguous() if layer is not None else value
    return out


def squeezed(state: State, draw: random.Random, module: nn.Module) -> object:
    """1x1 kernels as matrices, or matrices as 1x1 kernels."""
    share = draw.uniform(0.1, 1)
    out: State = {}
    for key, value in state.items():
        if value.dim() == 4 and value.shape[2:] == (1, 1) and draw.random() < share:
            value = value[:, :, 0, 0]
        elif value.dim() == 2 and key.endswith("weight") and draw.random() < share / 4:
            value = value[:, :, None, None]
        out[key] = value.contiguous()
    return out


def dtypes(state: State, draw: random.Random, module: nn.Module) -> object:
    share = draw.choice([1.0, 0.3])
    return {
        k: v.double() if v.is_floating_point() and draw.random() < share else v
        for k, v in state.items()
    }


def counters(state: State, draw: random.Random, module: nn.Module) -> object:
    """Whole numbers as floats."""
    return {k: v.float() if not v.is_floating_point() else v for k, v in state.items()}


def stray(state: State, draw: random.Random, module: nn.Module) -> object:
    extra = {f"loss_head.{n}": torch.randn(5) for n in range(draw.randint(1, 4))}
    extra |= {"ema_decay": torch.tensor(0.999), "total_ops": torch.zeros(1)}
    names = draw.sample(list(extra), draw.randint(1, len(extra)))
    return {**state, **{name: extra[name] for name in names}}


def weight_norm(state: State, draw: random.Random, module: nn.Module) -> object:
    new = draw.random() < 0.5
    share = draw.uniform(0.2, 1)
    out: State = {}
    for key, value in state.items():
        if value.dim() >= 2 and key.endswith(".weight") and draw.random() < share:
            g = torch.linalg.vector_norm(value, dim=list(range(1, value.dim())), keepdim=True)
            base = key.removesuffix("weight")
            names = ("weight_g", "weight_v")
            if new:
                stem = "parametrizations.weight.original"
                names = (f"{stem}0", f"{stem}1")
            out |= {base + names[0]: g, base + names[1]: value * 2}
        else:
            out[key] = value
    return out


def split_qkv(state: State, draw: random.Random, module: nn.Module) -> object:
    # not q_proj: so the EVA class of timm has them, and such a file is a ViT of that class
    names = draw.choice([("q", "k", "v"), ("query", "key", "value"), ("to_q", "to_k", "to_v")])
    out: State = {}
    for key, value in state.items():
        head, _, leaf = key.rpartition(".")
        if head.endswith(".qkv") and value.shape[0] % 3 == 0:
            parent = head.removesuffix("qkv")
            out |= {f"{parent}{n}.{leaf}": p for n, p in zip(names, value.chunk(3), strict=True)}
        else:
            out[key] = value
    return out


def folded_norms(state: State, draw: random.Random, module: nn.Module) -> object:
    """BatchNorms folded into the convolutions before them, as for inference."""
    last: dict[int, tuple[str, nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[str, nn.Conv2d, str, nn.BatchNorm2d]] = []
    hooks = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):

            def after(own: nn.Conv2d, _: object, out: Tensor, name: str = name) -> None:
                last[id(out)] = name, own, out

            hooks.append(layer.register_forward_hook(after))  # pyright: ignore
        elif isinstance(layer, nn.BatchNorm2d):

            def before(own: nn.BatchNorm2d, got: tuple[Tensor], name: str = name) -> None:
                if id(got[0]) in last:
                    pairs.append((*last[id(got[0])][:2], name, own))

            hooks.append(layer.register_forward_pre_hook(before))  # pyright: ignore
    with contextlib.suppress(RuntimeError, AssertionError), torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    out = dict(state)
    for conv_name, conv, norm_name, norm in pairs:
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var,
            norm.eps, norm.weight, norm.bias,
        )  # fmt: skip
        out = {k: v for k, v in out.items() if not k.startswith(f"{norm_name}.")}
        out |= {f"{conv_name}.weight": weight.detach(), f"{conv_name}.bias": bias.detach()}
    return out


def both(state: State, draw: random.Random, module: nn.Module) -> object:
    one, two = draw.sample([some_prefixed, squeezed, stray, dialect, dtypes], 2)
    return one(two(state, draw, module), draw, module)  # pyright: ignore


FIXABLE: tuple[Callable[[State, random.Random, nn.Module], object], ...] = (
    prefix, some_prefixed, wrapper, dialect, spelling, renamed_part, transposed_linears,
    transposed_convs, squeezed, dtypes, counters, stray, weight_norm, split_qkv, folded_norms,
    both,
)  # fmt: skip


def lost(state: State, draw: random.Random, module: nn.Module) -> object:
    trained = [k for k, _ in module.named_parameters()]
    gone = set(draw.sample(trained, draw.randint(1, 3)))
    return {k: v for k, v in state.items() if k not in gone}


def truncated(state: State, draw: random.Random, module: nn.Module) -> object:
    key = draw.choice([k for k, v in state.items() if v.dim() > 1 and v.shape[0] > 4])
    return {**state, key: state[key][: state[key].shape[0] // 2].clone()}


def half_norm(state: State, draw: random.Random, module: nn.Module) -> object:
    """weight_norm's direction without its length."""
    key = draw.choice([k for k, v in state.items() if v.dim() >= 2 and k.endswith(".weight")])
    out = {k: v for k, v in state.items() if k != key}
    return {**out, key.removesuffix("weight") + "weight_g": torch.ones(state[key].shape[0], 1)}


def codes(state: State, draw: random.Random, module: nn.Module) -> object:
    """int8 without a scale."""
    keys = [k for k, v in state.items() if v.dim() > 1]
    return {
        k: (v * 50).clamp(-127, 127).to(torch.int8) if k in keys else v for k, v in state.items()
    }


UNFIXABLE = (lost, truncated, half_norm, codes)


def changed(before: State, after: object) -> bool:
    if not isinstance(after, dict) or set(after) != set(before):
        return True
    return any(
        v.shape != before[k].shape or v.dtype != before[k].dtype or not torch.equal(v, before[k])
        for k, v in after.items()
    )


def lively(name: str, seed: int) -> nn.Module:
    """The network with random weights, statistics too, in eval mode."""
    torch.manual_seed(seed)
    library, _, architecture = name.partition("/")
    module = provider(library).create(architecture)
    enliven(module)
    return module.eval()


def enliven(module: nn.Module) -> None:
    """Norms and biases as after training, no two alike."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_mean") or (key.endswith("bias") and value.dim() == 1):
                value.normal_(0, 0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.dim() == 1 and value.is_floating_point() and value.numel() > 1:
                value.mul_(torch.rand_like(value) + 0.5)


def sides(name: str, module: nn.Module) -> Tensor:
    library, _, architecture = name.partition("/")
    example = provider(library).example(architecture, module)
    (image,) = example.args
    assert isinstance(image, Tensor)
    return image[:1]


def attempt(
    damaged: object, path: Path, out: Path, name: str, module: nn.Module
) -> tuple[bool, str]:
    """Whether the file was written and gives the network's outputs; and a word about it."""
    torch.save(damaged, path)
    before = path.read_bytes()
    out.unlink(missing_ok=True)
    try:
        plan = archfind.repair.plan(path)
        kinds = ",".join(dict.fromkeys(edit.kind for edit in plan.edits))
        archfind.repair.apply(archfind.repair.Plan.from_json(plan.to_json()), out)
    except ArchfindError as error:
        assert not out.exists()
        return False, f"{type(error).__name__}: {error.message}"
    finally:
        assert path.read_bytes() == before
    loaded = archfind.load(out, choose=plan.target)
    image = sides(name, module)
    with torch.no_grad():
        want, found = module(image), loaded(image)
    if want.shape != found.shape:
        return False, f"WRONG: {plan.target}, {list(found.shape)}"
    apart = float((want - found).abs().max() / want.abs().max())
    return apart < 1e-4, f"{plan.target} by {kinds}: {apart:.1e}" + (
        "" if apart < 1e-4 else " WRONG"
    )


def sweep(cases: int, seed: int, folder: Path, verbose: bool = True) -> dict[str, list[bool]]:
    """Results by damage; those of unfixable ones are True where they were refused."""
    draw = random.Random(seed)
    found: dict[str, list[bool]] = {}
    made = 0
    unfixable = cases // 4
    while made < cases + unfixable:
        damage = draw.choice(FIXABLE) if made < cases else draw.choice(UNFIXABLE)
        name = draw.choice(NETWORKS)
        module = lively(name, draw.randrange(1000))
        state = module.state_dict()
        damaged = damage(dict(state), draw, module)
        if not changed(state, damaged):
            continue
        made += 1
        good, word = attempt(damaged, folder / "in.pth", folder / "out.pth", name, module)
        if damage in UNFIXABLE:
            good = not good and "WRONG" not in word
        found.setdefault(damage.__name__, []).append(good)
        if verbose and not good:
            print(f"  {damage.__name__} {name}: {word}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = sweep(arguments.cases, arguments.seed, Path(place))
    unfixable = {damage.__name__ for damage in UNFIXABLE}
    for name, results in sorted(found.items()):
        word = "refused" if name in unfixable else "fixed"
        print(f"{name:<20} {sum(results)} of {len(results)} {word}")
    for label, names in (("fixed", set(found) - unfixable), ("refused", unfixable)):
        results = [one for name in names for one in found.get(name, [])]
        print(
            f"{sum(results)} of {len(results)} {label} ({sum(results) / max(1, len(results)):.1%})"
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
