"""Networks as people write them, with forwards, random sizes and names: what no library has. Each
kind gives a module, inputs for it, and what no tensor shows where no module's attribute says it."""

from __future__ import annotations

import random
from collections.abc import Callable

from drawn_generators import conv_autoencoder, discriminator, generator
from drawn_maps import (
    cnn_average,
    cnn_sequential,
    depthwise,
    frames,
    gated,
    inception,
    lenet,
    resnet,
    unet,
    unet_lists,
    upscaler,
)
from drawn_net import Drawn
from drawn_sequences import (
    classifier_rnn,
    language,
    series_transformer,
    vit,
    words_rnn,
    words_transformer,
)
from drawn_vectors import (
    actor_critic,
    autoencoder,
    mlp,
    mlp_list,
    mlp_norm,
    mlp_sequential,
    out_of_order,
    two_inputs,
    two_networks,
    vae,
)

__all__ = ["KINDS", "Drawn"]

KINDS: dict[str, Callable[[random.Random], Drawn]] = {
    kind.__name__: kind
    for kind in (
        mlp, mlp_sequential, mlp_norm, mlp_list, lenet, cnn_sequential, cnn_average, unet,
        unet_lists, resnet, upscaler, autoencoder, conv_autoencoder, vae, generator, discriminator,
        classifier_rnn, words_rnn, words_transformer, series_transformer, vit, language,
        actor_critic, two_networks, frames, two_inputs, inception, depthwise, out_of_order, gated,
    )
}  # fmt: skip
