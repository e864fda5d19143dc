"""Rows of packages for speech and music."""

from __future__ import annotations

from archfind.providers.zoo_row import Input, ZooNetwork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def _wave(*size: int) -> tuple[Input, ...]:
    return (Input("waveform", size, "wave"),)


def _classes(fields: Mapping[str, object], rows: Mapping[str, ZooNetwork]) -> dict[str, ZooNetwork]:
    """The rows again, "-ctc", with the last layer that a keyword adds."""
    more = {
        f"{n}-ctc": ZooNetwork(r.call, r.inputs, r.args, fields, fields) for n, r in rows.items()
    }
    return {**rows, **more}


_AUDIO = "torchaudio.models"
_SPEECH = _classes(
    {"aux_num_out": 29},
    {
        name: ZooNetwork(f"{_AUDIO}.wav2vec2.model.{name}", _wave(16000))
        for name in (
            "wav2vec2_base wav2vec2_large wav2vec2_large_lv60k wav2vec2_xlsr_300m wav2vec2_xlsr_1b "
            "wav2vec2_xlsr_2b hubert_base hubert_large hubert_xlarge wavlm_base wavlm_large"
        ).split()
    },
)
_PRETRAINED = {
    f"hubert_pretrain_{size}": ZooNetwork(
        f"{_AUDIO}.wav2vec2.model.hubert_pretrain_{size}",
        (*_wave(16000), Input("labels", (49,), "whole", 90)),
        fields=fields,
    )
    for size, fields in (("base", {"num_classes": 100}), ("large", {}), ("xlarge", {}))
}
_SOURCES = ["drums", "bass", "other", "vocals"]
TORCHAUDIO = {
    **_SPEECH,
    **_PRETRAINED,
    **{
        f"hdemucs_{size}": ZooNetwork(
            f"{_AUDIO}._hdemucs.hdemucs_{size}", _wave(2, 44100), (_SOURCES,)
        )
        for size in ("low", "medium", "high")
    },
    "conv_tasnet_base": ZooNetwork(
        f"{_AUDIO}.conv_tasnet.conv_tasnet_base", _wave(1, 8000), fields={"num_sources": 2}
    ),
    "Tacotron2": ZooNetwork(
        f"{_AUDIO}.tacotron2.Tacotron2",
        (
            Input("tokens", (20,), "whole", 90),
            Input("token_lengths", (), "lengths", 20),
            Input("mel_specgram", (80, 30), "noise"),
            Input("mel_specgram_lengths", (), "lengths", 30),
        ),
        fields={"n_symbol": 148},
    ),
    "WaveRNN": ZooNetwork(
        f"{_AUDIO}.wavernn.WaveRNN",
        (Input("waveform", (1, 5500), "wave"), Input("specgram", (1, 128, 24), "noise")),
        kwargs={"upsample_scales": [5, 5, 11], "n_classes": 256, "hop_length": 275},
        fields={"n_classes": 256},
    ),
    **{
        f"Wav2Letter-{kind}": ZooNetwork(
            f"{_AUDIO}.wav2letter.Wav2Letter",
            (Input("features", (features, 3000), "noise"),),
            kwargs={"input_type": kind, "num_features": features},
            fields={"num_classes": 40},
        )
        for kind, features in (("waveform", 1), ("power_spectrum", 201), ("mfcc", 40))
    },
    "DeepSpeech": ZooNetwork(
        f"{_AUDIO}.deepspeech.DeepSpeech",
        (Input("features", (1, 20, 80), "noise"),),
        kwargs={"n_feature": 80},
        fields={"n_hidden": 2048, "n_class": 40},
    ),
    "Conformer": ZooNetwork(
        f"{_AUDIO}.conformer.Conformer",
        (Input("features", (20, 80), "noise"), Input("lengths", (), "lengths", 20)),
        kwargs={
            "input_dim": 80,
            "num_heads": 4,
            "ffn_dim": 128,
            "num_layers": 4,
            "depthwise_conv_kernel_size": 31,
        },
    ),
    "emformer_rnnt_base": ZooNetwork(
        f"{_AUDIO}.rnnt.emformer_rnnt_base",
        (
            Input("sources", (40, 80), "noise"),
            Input("source_lengths", (), "lengths", 32),
            Input("targets", (10,), "whole", 90),
            Input("target_lengths", (), "lengths", 10),
        ),
        kwargs={"num_symbols": 4097},
        fields={"num_symbols": 4097},
    ),
    "squim_objective_base": ZooNetwork(
        f"{_AUDIO}.squim.objective.squim_objective_base", _wave(16000)
    ),
    "squim_subjective_base": ZooNetwork(
        f"{_AUDIO}.squim.subjective.squim_subjective_base",
        (*_wave(16000), Input("reference", (16000,), "wave")),
    ),
}

DEMUCS = {
    name: ZooNetwork(
        f"demucs.{module}.{name}",
        _wave(2, 44100 * 2),
        kwargs={"sources": _SOURCES, **more},
    )
    for name, module, more in (
        ("Demucs", "demucs", {}),
        ("HDemucs", "hdemucs", {}),
        ("HTDemucs", "htdemucs", {}),
    )
}

ENCODEC = {
    name: ZooNetwork(
        f"encodec.model.EncodecModel.{name}", _wave(channels, 12000), kwargs={"pretrained": False}
    )
    for name, channels in (("encodec_model_24khz", 1), ("encodec_model_48khz", 2))
}

SNAC = {
    f"SNAC-{name}": ZooNetwork(
        "snac.snac.SNAC",
        _wave(1, 44100),
        kwargs={
            "sampling_rate": rate,
            "encoder_dim": 48 if strides[0] == 4 and len(strides) == 3 else 64,
            "encoder_rates": rates,
            "decoder_dim": 1024 if len(strides) == 3 else 1536,
            "decoder_rates": rates[::-1],
            "attn_window_size": None if len(strides) == 3 else 32,
            "vq_strides": strides,
        },
    )
    for name, rate, rates, strides in (
        ("24khz", 24000, [2, 4, 8, 8], [4, 2, 1]),
        ("32khz", 32000, [2, 3, 8, 8], [8, 4, 2, 1]),
        ("44khz", 44100, [2, 3, 8, 8], [8, 4, 2, 1]),
    )
}

OPENUNMIX = {
    "OpenUnmix": ZooNetwork(
        "openunmix.model.OpenUnmix",
        (Input("spectrogram", (2, 2049, 20), "positive"),),
        kwargs={"nb_bins": 2049, "max_bin": 1487},
        fields={"max_bin": 1487},
    ),
    "OpenUnmix-unidirectional": ZooNetwork(
        "openunmix.model.OpenUnmix",
        (Input("spectrogram", (2, 2049, 20), "positive"),),
        kwargs={"nb_bins": 2049, "max_bin": 1487, "unidirectional": True},
        fields={"max_bin": 1487},
    ),
}
