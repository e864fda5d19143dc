"""Low-rank adapters of a base model that isn't in the file: the layers that they change, ranks and
scale, and whose layers these are. All from names and shapes, but for the scales, which are one
number each."""

from __future__ import annotations

import os
import string
from collections import Counter

from archfind.errors import CheckpointError
from archfind.evidence.training import scalar_in_place
from archfind.formats.side_files import claimed_number, claimed_word, read_object, side_file_path
from archfind.frozen import frozen, row
from archfind.types import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archfind.types import Checkpoint, TensorSpec

# How the matrix that leads down to the rank is called, the one that leads up, and who writes it so.
_PAIRS = (
    (".lora_A", ".lora_B", "PEFT"),
    (".lora_embedding_A", ".lora_embedding_B", "PEFT"),
    (".lora_down", ".lora_up", "kohya"),
    (".lora_linear_layer.down", ".lora_linear_layer.up", "diffusers"),
    (".lora.down", ".lora.up", "diffusers"),
    ("_lora.down", "_lora.up", "diffusers, attention processors"),
    ("_lora1.down", "_lora1.up", "XLabs"),
    ("_lora2.down", "_lora2.up", "XLabs"),
    (".lora_a", ".lora_b", "llama.cpp or loralib"),
)
# LyCORIS: what marks a layer, the tensor whose first size is the rank, and the name.
_MARKS = (
    ("hada_w1_a", ("hada_w1_b",), "LoHa"),
    ("lokr_w1", ("lokr_w2_b", "lokr_w1_b"), "LoKr"),
    ("lokr_w1_a", ("lokr_w1_b",), "LoKr"),
    ("oft_blocks", (), "OFT"),
    ("oft_diag", (), "OFT"),
    ("oft_R.weight", (), "OFT"),
    ("oft_R", (), "OFT"),
    ("oft_r", (), "OFT"),
    ("boft_R", (), "BOFT"),
    ("diff", (), "whole differences"),
    ("ia3_l", (), "IA3"),
    ("on_input", (), "IA3"),
    ("vera_lambda_b", (), "VeRA"),
)
_PREFIXES = (
    "base_model.model.", "base_model.", "unet.", "transformer.", "text_encoder_2.", "text_encoder.",
    "diffusion_model.", "model.diffusion_model.",
)  # fmt: skip
_FLAT = (
    "lora_unet_",
    "lora_te1_",
    "lora_te2_",
    "lora_te3_",
    "lora_te_",
    "lora_transformer_",
    "lora_",
)
_KOHYA = "ss_network_alpha"
_PLAIN = frozenset(string.ascii_letters + string.digits + "_.")  # of a name, not of an expression
_ALPHAS = 400  # scales that are read
_FEWEST = 0.1  # of the tensors must be an adapter's


@row
class Pair:
    """One adapted layer: its name less what the format puts before it, the keys of both matrices,
    and the weight's shape that they multiply to."""

    name: str
    stem: str
    down: str
    up: str
    rank: int
    shape: tuple[int, ...]
    format: str


@frozen
class LowRank:
    """An adapter. `form` is LoRA, DoRA, LoHa ...; `written` the naming; `alpha` None where no file
    says it; `full` are tensors that no pair explains: whole weights (a new head, a resized
    embedding), `claimed` is the base that a config or metadata names."""

    form: str
    written: str
    layers: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    rslora: bool
    full: tuple[str, ...]
    claimed: str
    patterns: Mapping[str, float] = NOTHING  # scales by the ends of layers' names
    left: tuple[str, ...] = ()  # the adapter's own that is neither pair nor scale
    doubts: tuple[str, ...] = ()  # what says how it scales, and can't be believed

    @property
    def unpaired(self) -> list[str]:
        """Tensors of the adapter that no product of two matrices accounts for: magnitudes, singular
        values, differences of biases. It can't be merged without them."""
        return [key for key in self.left if not key.endswith(".alpha")]

    @property
    def alpha(self) -> float | None:
        """The first scale, where any is known."""
        return self.alphas[0] if self.alphas else None


def low_rank(checkpoint: Checkpoint) -> LowRank | None:
    """The adapter in a file; None where it is none, or where its base is in the file, too."""
    index = checkpoint.index
    pairs = list(_pairs(index))
    used = {key for pair in pairs for key in (pair.down, pair.up)}
    halves = _halves(index, used)
    stems = [pair.stem for pair in pairs] + [stem for stem, _, _ in halves]
    form, ranks = "LoRA", [pair.rank for pair in pairs]
    ranks += [rank for _, rank, _ in halves if not pairs]
    for mark, sized, name in _MARKS if not stems else ():
        found = [key[: -len(mark) - 1] for key in index if key.endswith(f".{mark}")]
        if found:
            form = name if not stems else form
            stems += found
            sizes = [index.get(f"{stem}.{one}") for stem in found for one in sized]
            ranks += [spec.shape[0] for spec in sizes if spec is not None and spec.shape]
    stems = list(dict.fromkeys(stems))
    if not stems or _has_base(index, stems):
        return None
    own = _own(index, stems)
    if any(
        key.endswith((".dora_scale", ".lora_magnitude_vector", ".w_norm_out")) for key in index
    ) or (any(".lora_magnitude_vector" in key for key in own)):
        form = "DoRA"
    form = "AdaLoRA" if any(".lora_E" in key for key in own) else form
    used |= own | {key for key in index if key.endswith((".vera_A", ".vera_B"))}  # shared by all
    if len(used) < _FEWEST * len(index):
        return None
    config, doubts = _config(checkpoint)
    patterns = _patterns(config, doubts)
    paired = {key for pair in pairs for key in (pair.down, pair.up, f"{pair.stem}.alpha")}
    written = _written(
        index, [pair.format for pair in pairs] + [half[2] for half in halves], form, bool(config)
    )
    if halves:
        doubts.append(
            f"{len(halves)} of its matrices stand alone: the other of each pair isn't in this file"
        )
    alphas = _alphas(checkpoint, stems, config, doubts)
    return LowRank(
        form,
        written,
        tuple(map(bare_layer_name, stems)),
        tuple(pairs),
        tuple(sorted(set(ranks))),
        alphas,
        config.get("use_rslora") is True,
        tuple(key for key in index if key not in used),
        _claimed(checkpoint, config),
        patterns,
        tuple(key for key in index if key in own and key not in paired),
        tuple(doubts),
    )


def _pairs(index: Mapping[str, TensorSpec]) -> Iterable[Pair]:
    for key, spec in index.items():
        for down, up, written in _PAIRS:
            at = key.find(down)
            rest = key[at + len(down) :]
            if at < 0 or (rest and rest[0] != ".") or rest.count(".") > 2:
                continue
            stem = key[:at]
            other = f"{stem}{up}{rest}"
            if other not in index:
                continue
            a, b = spec.shape, index[other].shape
            if len(a) >= 2 and len(b) >= 2 and a[0] == b[1] and a[0]:
                stem += "_lora" if down.startswith("_") and stem + "_lora.alpha" in index else ""
                yield Pair(bare_layer_name(stem), stem, key, other, a[0], (b[0], *a[1:]), written)
            break


def _halves(index: Mapping[str, TensorSpec], paired: set[str]) -> list[tuple[str, int, str]]:
    """Layers of which only one of both matrices is there (a shard, a cut file): name, rank, and who
    writes it so."""
    halves: list[tuple[str, int, str]] = []
    for key, spec in index.items():
        if key in paired or len(spec.shape) < 2:
            continue
        for marks in _PAIRS:
            side = next((n for n in (0, 1) if f"{marks[n]}." in key), None)
            if side is not None:
                halves.append((key[: key.index(marks[side])], spec.shape[side], marks[2]))
                break
    return halves


def bare_layer_name(stem: str) -> str:
    """A layer's name less what formats put before it."""
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    for prefix in _FLAT:
        if stem.startswith(prefix) and "." not in stem:
            return stem[len(prefix) :]
    return stem


def _has_base(index: Mapping[str, TensorSpec], stems: list[str]) -> bool:
    """Whether the adapted layers' own weights are there: then the file is a network that holds
    adapters."""
    weights = sum(
        any(f"{stem}.{name}" in index for name in ("weight", "base_layer.weight", "linear.weight"))
        for stem in stems
    )
    return 2 * weights > len(stems) and not any(key.endswith(".on_input") for key in index)


def _own(index: Mapping[str, TensorSpec], stems: list[str]) -> set[str]:
    """The keys of the adapter itself: below an adapted layer, scales, magnitudes."""
    below = set(stems)
    own: set[str] = set()
    for key in index:
        stem = key
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if stem in below:
                own.add(key)
                break
    return own


def _written(
    index: Mapping[str, TensorSpec], formats: list[str], form: str, configured: bool
) -> str:
    first = next(iter(index), "")
    if form in ("LoHa", "LoKr", "OFT", "whole differences") or not formats:
        return "PEFT" if configured or first.startswith("base_model.") else "LyCORIS"
    written = formats[0]
    if written == "PEFT" and not configured and not any("base_model." in key for key in index):
        known = first.startswith(("unet.", "transformer.", "text_encoder"))
        return "diffusers" if known else "PEFT's keys"
    return written


def _config(checkpoint: Checkpoint) -> tuple[dict[str, object], list[str]]:
    """PEFT's adapter_config.json beside the file, and what is wrong with it."""
    place = side_file_path((checkpoint.files or (checkpoint.path,))[0], "adapter_config.json")
    if not os.path.lexists(place):
        return {}, []
    try:
        found = read_object(place)
    except CheckpointError as error:
        return {}, [f"the adapter_config.json beside it is left aside: {error.message}"]
    doubts: list[str] = []
    if "lora_alpha" in found and claimed_number(found["lora_alpha"]) is None:
        doubts.append("lora_alpha in adapter_config.json is no number")
    if not isinstance(found.get("use_rslora"), bool | None):
        doubts.append("use_rslora in adapter_config.json is neither true nor false")
    return found, doubts


def _patterns(config: Mapping[str, object], doubts: list[str]) -> dict[str, float]:
    """Scales of PEFT's alpha_pattern by the ends of layers' names. Regular expressions among them
    are doubts: none is run."""
    given = config.get("alpha_pattern") or {}
    found: dict[str, float] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        alpha = claimed_number(value)
        if isinstance(name, str) and alpha is not None and _PLAIN.issuperset(name):
            found[name] = alpha
    if not isinstance(given, dict) or len(found) < len(given):
        doubts.append("adapter_config.json gives layers an alpha of their own (alpha_pattern)")
    return found


def _alphas(
    checkpoint: Checkpoint, stems: list[str], config: Mapping[str, object], doubts: list[str]
) -> tuple[float, ...]:
    index = checkpoint.index
    specs = [index[f"{stem}.alpha"] for stem in stems if f"{stem}.alpha" in index][:_ALPHAS]
    if specs:
        read = [claimed_number(scalar_in_place(spec)) for spec in specs]
        return tuple(sorted({value for value in read if value is not None}))
    if _KOHYA in checkpoint.metadata:
        alpha = claimed_number(checkpoint.metadata[_KOHYA])
        doubts += [f"{_KOHYA} in its metadata is no number"] * (alpha is None)
    else:
        alpha = claimed_number(config.get("lora_alpha"))
    return () if alpha is None else (alpha,)


def _claimed(checkpoint: Checkpoint, config: Mapping[str, object]) -> str:
    names = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name")
    claims = [config.get("base_model_name_or_path"), *map(checkpoint.metadata.get, names)]
    return next((one for one in map(claimed_word, claims) if one), "")


def base_words(found: LowRank) -> str:
    """Whose layers an adapter's targets are, as far as names and widths are certain: "a Stable
    Diffusion 1.x UNet and text encoder"; "" where they aren't."""
    names = [stem.replace(".", "_") for stem in found.layers]
    widths = {pair.name.replace(".", "_"): pair.shape[1] for pair in found.pairs}
    parts = [words for words in (_denoiser(names, widths), _words(names, widths)) if words]
    texts = [name for name in names if "text_model_encoder" in name]
    if texts and parts:
        sizes = {widths[name] for name in texts if "q_proj" in name and name in widths}
        parts.append("text encoders" if len(sizes) > 1 else "text encoder")
    elif texts:
        sizes = {widths[name] for name in texts if "q_proj" in name and name in widths}
        kinds = {768: "CLIP-L", 1024: "OpenCLIP-H", 1280: "OpenCLIP-bigG"}
        known = [kinds.get(size, f"width {size}") for size in sorted(sizes)]
        parts.append(
            f"a CLIP text encoder ({', '.join(known)})" if known else "a CLIP text encoder"
        )
    return " and ".join(parts)


def _denoiser(names: list[str], widths: Mapping[str, int]) -> str:
    def width(*ends: str) -> int:
        sizes = Counter(size for name, size in widths.items() if name.endswith(ends))
        return sizes.most_common(1)[0][0] if sizes else 0

    every = "\n".join(names)
    text = width("attn2_to_k", "attn2_to_v")
    if "double_blocks_" in every or "single_transformer_blocks_" in every:
        wide = width("img_attn_qkv", "attn_to_q", "attn_to_k", "img_attn_proj", "linear1", "qkv")
        if wide == 3072:
            deep = any(f"double_blocks_{n}_" in every for n in (19, 20))
            return "HunyuanVideo" if deep else "a Flux transformer"
        return "a Flux-like transformer" + (f" of width {wide}" if wide else "")
    if "joint_blocks_" in every or "add_k_proj" in every or "add_q_proj" in every:
        wide = width("add_k_proj", "add_q_proj", "context_block_attn_qkv", "attn_to_q")
        kinds = {1536: "a Stable Diffusion 3 (medium) transformer"}
        kinds[2432] = "a Stable Diffusion 3.5 (large) transformer"
        return kinds.get(wide, f"a diffusion transformer of width {wide}" if wide else "")
    if "blocks_0_cross_attn_" in every and "self_attn" in every:
        return f"a Wan-like video transformer of width {width('cross_attn_q', 'self_attn_q')}"
    if not any(
        word in every for word in ("down_blocks_", "input_blocks_", "mid_block_", "up_blocks_")
    ):
        return ""
    kinds = {768: "Stable Diffusion 1.x (1.5)", 1024: "Stable Diffusion 2.x", 2048: "SDXL",
             1280: "SDXL refiner"}  # fmt: skip
    if text in kinds:
        return f"{'an' if text in (2048, 1280) else 'a'} {kinds[text]} UNet"
    if "transformer_blocks_9_" in every:
        return "an SDXL UNet"
    return f"a diffusion UNet for text of width {text}" if text else "a diffusion UNet"


_TEXTS = (
    ("layers_#_self_attn_", "a Llama-like language model"),
    ("h_#_attn_c_attn", "a GPT-2"),
    ("layer_#_attention_self_", "a BERT-like encoder"),
    ("layer_#_attention_attention_", "a ViT"),
    ("block_#_layer_0_SelfAttention_", "a T5"),
    ("h_#_self_attention_query_key_value", "a Bloom or Falcon"),
    ("layers_#_attention_query_key_value", "a GPT-NeoX"),
    ("blk_#_attn_", "a language model of llama.cpp"),
)


def _words(names: list[str], widths: Mapping[str, int]) -> str:
    from archfind.state_dicts.key_names import skeleton  # late: of few files

    shapes = {name: skeleton(name) for name in names}
    if any("encoder_attn" in name for name in names):
        sizes = Counter(size for n, size in widths.items() if "q_proj" in n or "v_proj" in n)
        wide = f" of width {sizes.most_common(1)[0][0]}" if sizes else ""
        return f"an encoder and decoder with Bart's names (Bart, Whisper){wide}"
    for mark, words in _TEXTS:
        own = [name for name in names if mark in shapes[name] and "text_model" not in name]
        sizes = Counter(widths[n] for n in own if n in widths and not n.endswith("o_proj"))
        if own:
            return words + (f" of width {sizes.most_common(1)[0][0]}" if sizes else "")
    return ""
