"""Small files of vectors and layers that stand beside a model's weights: textual inversions, soft
prompts, hypernetworks. Told by names and shapes."""

from __future__ import annotations

from archfind.types import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Shapes = Mapping[str, tuple[int, ...]]

# Width of the text that a diffusion model attends to -> whose that is.
TEXTS = {
    768: "Stable Diffusion 1.x (1.5)",
    1024: "Stable Diffusion 2.x",
    1280: "the SDXL refiner",
    2048: "SDXL",
}


def embedding(shapes: Shapes) -> Kind | None:
    """A textual inversion: vectors for a new word of the text encoder."""
    named = dict(shapes)
    vectors: dict[str, tuple[int, ...]] = {
        key: shape
        for key, shape in named.items()
        if key in ("emb_params", "clip_l", "clip_g")
        or key.startswith(("string_to_param.", "<"))
        or (len(named) == 1 and "." not in key and shape[-1:] in [(768,), (1024,), (1280,)])
    }
    if not vectors or len(vectors) < len(named) - ("string_to_token" in str(named)):
        return None
    sizes = {shape[-1] for shape in vectors.values() if shape}
    if len(sizes) == 2 and sizes == {768, 1280}:
        base = "SDXL"
    else:
        base = TEXTS.get(next(iter(sizes)), "") if len(sizes) == 1 else ""
        base = "the second text encoder of SDXL" if sizes == {1280} else base
    counts = sorted({shape[0] if len(shape) > 1 else 1 for shape in vectors.values()})
    words = f"a textual inversion embedding, {counts[-1]} vector{'s' * (counts[-1] > 1)}"
    words += f" of width {' and '.join(map(str, sorted(sizes)))}"
    words += f", for {base}" if base else ""
    tokens = [key for key in vectors if key not in ("emb_params", "clip_l", "clip_g")]
    tokens = [key.removeprefix("string_to_param.") for key in tokens]
    details = {"vectors": counts[-1], "width": sorted(sizes), "base": base or None, "token": tokens}
    return Kind("textual-inversion", words, details, "loaded beside the base's text encoder")


def soft_prompt(shapes: Shapes) -> Kind | None:
    """PEFT's prompts that are vectors: of the input, or of every layer's keys and values."""
    shape = shapes.get("prompt_embeddings", ())
    if len(shape) != 2 or len(shapes) > 3:
        return None
    count, width = shape
    words = f"a soft prompt (PEFT: prompt or prefix tuning), {count} vectors of width {width}"
    details = {"vectors": count, "width": [width]}
    return Kind("soft-prompt", words, details, "no network by itself: load its base model first")


def hypernetwork(shapes: Shapes) -> Kind | None:
    """Stable Diffusion's hypernetworks: for each width of text or image two small MLPs, of keys and
    of values."""
    heads = {tuple(key.split(".")[:2]) for key in shapes}
    if not all(width.isdecimal() and side in ("0", "1") for width, *rest in heads for side in rest):
        return None
    widths = sorted({int(width) for width, *rest in heads if rest})
    if not widths or not set(widths) <= {320, 640, 768, 1024, 1280}:
        return None
    base = TEXTS[1024 if 1024 in widths else 768]
    words = f"a hypernetwork, of widths {', '.join(map(str, widths))}, for {base}"
    return Kind("hypernetwork", words, {"widths": widths}, "loaded beside its base's UNet")
