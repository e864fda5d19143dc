"""torch's own quantisation seen through: the float network that was quantised, under the names that
its library has. Header only; on the cold path of `archfind guess`, for files that show it.

Converted layers keep integer weights with a scale, and have what follows them folded in; training
with fake quantisation keeps floats, with an observer beside each weight and activation and a norm
inside each convolution. What the library's network has and the file folded away is told by the
library's own keys.
"""

from __future__ import annotations

from archfind.database.notation import ordered
from archfind.frozen import replace
from archfind.matching.compare import match
from archfind.matching.shortlist import prefixes, signatures, tensors_below
from archfind.state_dicts.quantised import DIRECTIONS, INTEGERS, PACKED, is_direction
from archfind.types import Assumed, Quantisation, Setting, Step, Storage, TensorSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archfind.database.entries import Database, Signature
    from archfind.types import Canonical, Guess, Match

    Index = Mapping[str, TensorSpec]

_OBSERVED = (".weight_fake_quant.", ".activation_post_process.")
_NORM = frozenset("weight bias running_mean running_var num_batches_tracked".split())
_CANDIDATES = 6
_FOLDED = ("absent", "it was folded into the layer before it", 0)


def unquantised(canonical: Canonical, database: Database) -> Iterator[Canonical]:
    """The float network that a state dict was made of, the likeliest reading first; each with
    what torch did to it."""
    keys = canonical.index
    kind, observed, packed = _kind(keys)
    numbered = any(_is_numbered(key) for key in keys)
    plain = _plain(keys, kind, observed, packed)
    layers = {name.rpartition(".")[0] for name in packed.values()}
    layers |= {key.rpartition(".")[0] for key in keys if _is_whole(key, keys[key], packed)}
    if kind == "training":
        layers = {k.partition(".weight_fake_quant")[0] for k in keys if "weight_fake_quant" in k}
    for prefix in prefixes(plain, database) if kind != "dynamic" else [""]:
        cut = len(prefix)
        made = Quantisation(
            kind,
            "fx" if numbered else "eager",
            tuple(sorted(name[cut:] for name in layers if name.startswith(prefix))),
            _is_by_channel(keys),
            prefix,
            dict(canonical.origin),
            halves=not any(spec.dtype in INTEGERS for spec in keys.values()),
        )
        inner = tensors_below(plain, prefix)
        if kind == "dynamic":
            yield _with(canonical, inner, prefix, made)
            continue
        for number, *_ in signatures(_weights(inner), database, _CANDIDATES):
            signature = database.signature(number)
            found = _folded_into(inner, signature, match(inner, signature))
            if found is not None:
                index, renamed, folded = found
                yield _with(canonical, index, prefix, replace(made, folded=folded), renamed)


def float_tensors(index: Index) -> Index:
    """The tensors of the float network that was quantised, as far as layers show them."""
    return _plain(index, *_kind(index))


def _kind(index: Index) -> tuple[str, set[str], dict[str, str]]:
    """What torch did, the keys of what observes, and those in packed weights with their names in
    the float network."""
    observed = {k for k in index if any(word in f".{k}" for word in _OBSERVED) or _is_apart(k)}
    packed = float_names(index)
    whole = any(_is_whole(key, spec, packed) for key, spec in index.items())
    kind = "training" if observed and not whole else "static"
    if packed and not whole and not any(_is_numbered(key) or _is_stub(key) for key in index):
        kind = "dynamic"
    return kind, observed, packed


def _is_whole(key: str, spec: TensorSpec, packed: Mapping[str, str]) -> bool:
    """Whether a tensor is a quantised weight that isn't packed."""
    return spec.dtype in INTEGERS and key not in packed


def _plain(
    index: Index, kind: str, observed: set[str], packed: Mapping[str, str]
) -> dict[str, TensorSpec]:
    """The float network's tensors, less what torch added, under the network's own names."""
    plain: dict[str, TensorSpec] = {}
    for key, spec in index.items():
        leaf = key.rpartition(".")[2]
        scalar = leaf in ("scale", "zero_point") and len(spec.shape) < 2
        if key in observed or _is_numbered(key) or (scalar and kind != "training"):
            continue
        plain[packed.get(key, key)] = (
            TensorSpec("float32", spec.shape, spec.storage) if spec.dtype in INTEGERS else spec
        )
    return plain


def float_names(index: Index) -> dict[str, str]:
    """The names that tensors in packed weights have in the float network, by those in the file."""
    names: dict[str, str] = {}
    for key in index:
        parent, _, leaf = key.rpartition(".")
        if f".{parent}".endswith(f".{PACKED}"):
            names[key] = parent.removesuffix(PACKED) + ("weight" if leaf == "0" else "bias")
        elif is_direction(parent) and leaf in ("0", "1", "2", "3"):
            head, _, rest = parent.partition(DIRECTIONS)
            number = rest.removesuffix(".param")
            layer, back = divmod(int(number), 2) if _both_ways(index, head) else (int(number), 0)
            word = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[int(leaf)]
            names[key] = f"{head}{word}_l{layer}{'_reverse' if back else ''}"
    return names


def _both_ways(index: Index, head: str) -> bool:
    """Whether a recurrent layer reads in both directions: its second one reads what the first one
    does, and a third what both give."""
    reads = [index.get(f"{head}{DIRECTIONS}{n}.param.0") for n in (0, 1, 2)]
    first, second, third = [spec.shape[-1] if spec and spec.shape else 0 for spec in reads]
    hidden = index.get(f"{head}{DIRECTIONS}0.param.1")
    width = hidden.shape[-1] if hidden and hidden.shape else 0
    return second == first and third in (0, 2 * width) and (third > 0 or second != width)


def _weights(index: Index) -> dict[str, TensorSpec]:
    """The weights of layers, which no folding changes the shape of."""
    return {key: spec for key, spec in index.items() if len(spec.shape) > 1}


def _is_numbered(key: str) -> bool:
    """Whether a tensor is one that torch.fx's conversion keeps for an edge of the graph."""
    head, _, number = key.partition(".")[0].rpartition("_")
    words = ("_scale", "_zero_point", "activation_post_process")
    return number.isdecimal() and head.endswith(words)


def _is_apart(key: str) -> bool:
    return key.startswith(("activation_post_process", "quant.activation_post_process"))


def _is_stub(key: str) -> bool:
    return key.rpartition(".")[0].rpartition(".")[2] == "quant"


def _is_by_channel(index: Index) -> bool:
    """Whether weights have a scale for each of their outputs: observers of such start empty, those
    of one number with that."""
    for key, spec in index.items():
        if spec.quantiser is not None and len(spec.shape) > 1:
            return spec.quantiser.axis >= 0
        if key.endswith("weight_fake_quant.activation_post_process.min_val"):
            return len(spec.shape) == 1
    return True


def _folded_into(
    index: Index, signature: Signature, found: Match
) -> tuple[dict[str, TensorSpec], dict[str, str], tuple[tuple[str, str], ...]] | None:
    """The state dict completed with the norms that were folded into its layers, or stand within
    them, as one signature has them; the keys of the file for those that it hasn't by name, and
    the layers with their norms. None where more than norms is missing."""
    missing = {*found.missing}
    if found.mismatched or not all(_is_of_norm(key, missing, signature) for key in missing):
        return None
    names = ordered([*signature.fixed, *signature.free])
    made, renamed = dict(index), {}
    layer = ""
    left = {key.rpartition(".")[0] for key in missing}
    pairs: list[tuple[str, str]] = []
    for key in names:
        module = key.rpartition(".")[0]
        if len(made[f"{module}.weight"].shape if f"{module}.weight" in made else ()) > 1:
            layer = module
        elif module in left and layer:
            left.discard(module)
            pairs.append((layer, module))
            renamed |= _norm_of(made, layer, module, signature)
            if f"{layer}.bias" not in signature.fixed:
                made.pop(f"{layer}.bias", None)
    known = signature.fixed.keys() | signature.free.keys()
    if left or any(key not in known and not _is_counter(key) for key in made):
        return None
    order = {key: n for n, key in enumerate(names)}
    keys = sorted(made, key=lambda key: order.get(key, len(order)))
    return {key: made[key] for key in keys}, renamed, tuple(pairs)


def _is_of_norm(key: str, missing: set[str], signature: Signature) -> bool:
    """Whether a missing tensor is one of a norm of which all is missing."""
    module, _, name = key.rpartition(".")
    return name in _NORM and key in signature.fixed and f"{module}.running_mean" in missing


def _norm_of(
    made: dict[str, TensorSpec], layer: str, module: str, signature: Signature
) -> dict[str, str]:
    """Put the norm behind a layer into the state dict: the one within it, or one without values.
    Gives the file's keys for its tensors."""
    renamed: dict[str, str] = {}
    for name in _NORM:
        inside, own = f"{layer}.bn.{name}", f"{module}.{name}"
        if inside in made and (own in signature.fixed or own in signature.free):
            made[own] = made.pop(inside)
            renamed[own] = inside
        elif own in signature.fixed:
            storage = Storage("", own, -1, 0, _FOLDED)
            made[own] = TensorSpec("float32", signature.fixed[own], storage)
            renamed[own] = f"{layer}.weight"
    return renamed


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def _with(
    canonical: Canonical,
    index: Index,
    prefix: str,
    made: Quantisation,
    renamed: Mapping[str, str] = {},
) -> Canonical:
    """The canonical state dict with the float network's tensors."""
    packed = {name: key for key, name in float_names(canonical.index).items()}
    origin: dict[str, str] = {}
    for key in index:
        place = f"{prefix}{renamed.get(key, key)}"
        origin[key] = canonical.origin.get(place) or canonical.origin[packed[place]]
    steps = [Step("strip", prefix)] if prefix else []
    steps.append(Step("undo", f"{quantisation_words(made)} of {len(made.layers)} layers"))
    return replace(
        canonical,
        index=index,
        origin=origin,
        steps=(*canonical.steps, *steps),
        quantisation=made,
    )


def guess_with_quantisation(
    found: Guess, of_entry: Callable[[str], Guess | None], choose: str
) -> Guess:
    """The answer about a quantised network, with what its quantisation adds: a network that is
    computed in integers is the one that its library writes for that (`of_entry` answers with an
    entry), unless the user chose one; the ranges of fake quantisation are in no tensor."""
    made, first = found.canonical.quantisation, found.matches[0]
    assert made is not None
    if made.kind == "training":
        usual = "x86" if made.by_channel else "qnnpack"
        other = "qnnpack" if made.by_channel else "x86"
        item = Assumed("qconfig", "ranges of fake quantisation", usual, (other,))
        first = replace(first, assumed=(*first.assumed, item))
    elif made.kind == "static" and made.style == "eager" and not choose:
        every = [t for t in first.twins if t.same_function and t.architecture[:10] == "quantized_"]
        entry = of_entry(f"{every[0].provider}/{every[0].architecture}") if every else None
        if entry is not None and entry.status == "exact":
            config = {**entry.matches[0].config, "quantize": Setting(True, "file")}
            first = replace(entry.matches[0], config=config)
    return replace(found, matches=(first, *found.matches[1:]))


def quantisation_words(made: Quantisation) -> str:
    """What torch did, in words: "static quantisation (eager mode, norms folded)"."""
    mode = {"fx": "FX", "eager": "eager mode"}[made.style]
    if made.kind == "training":
        return f"quantisation-aware training ({mode}{', norms fused' if made.folded else ''})"
    if made.kind == "dynamic":
        return f"dynamic quantisation{' (half precision)' if made.halves else ''}"
    return f"static quantisation ({mode}{', norms folded' if made.folded else ''})"
