"""config.json files beside honest weights: what each claims, and what `load` and `export` have to
make of it: "ok" where the claim is left aside or has no say, "refused" where it is one line."""

from __future__ import annotations

from .build import MARKERS, PYTHON, SHELL

HONEST = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_act": "gelu",
    "num_attention_heads": 2,
}
_ESCAPES = "\x1b[31mx\nFORGED: line\u202e"
_CODE = f"__import__('os').system('{SHELL}')"
_NESTED: object = 1
for _ in range(25):
    _NESTED = {"x": _NESTED}

CONFIGS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("remote code", {"auto_map": {"AutoModel": "modeling_evil.Evil", "AutoConfig": "evil/repo--c.C"},
                     "trust_remote_code": True, "custom_code": PYTHON}, "ok"),
    ("a name on the hub", {"_name_or_path": "evil/repo", "name_or_path": "evil/repo"}, "ok"),
    ("a URL for a name", {"_name_or_path": "https://example.invalid/x"}, "ok"),
    ("a UNC path for a name", {"_name_or_path": "\\\\example.invalid\\share\\x"}, "ok"),
    ("an absolute path for a name", {"_name_or_path": "/etc/passwd"}, "ok"),
    ("a network of 10 TB", {"hidden_size": 10**9, "num_hidden_layers": 10**9,
                            "intermediate_size": 10**9, "vocab_size": 10**12}, "ok"),
    ("10 TB that no tensor contradicts", {"max_position_embeddings": 10**12, "chunk_size_feed_forward": 10**9,
                                          "type_vocab_size": 2**62}, "ok"),
    ("many heads", {"num_attention_heads": 10**9}, "ok"),
    ("more heads than width", {"num_attention_heads": 10**6}, "ok"),
    ("no heads", {"num_attention_heads": 0}, "ok"),
    ("fewer heads than none", {"num_attention_heads": -2}, "ok"),
    ("half a head", {"num_attention_heads": 1.5}, "ok"),
    ("heads as text", {"num_attention_heads": "2"}, "ok"),
    ("heads in a list", {"num_attention_heads": [2]}, "ok"),
    ("heads in an object", {"num_attention_heads": {"a": {"b": 2}}}, "ok"),
    ("heads that are true", {"num_attention_heads": True}, "ok"),
    ("sizes of other kinds", {"hidden_size": "x", "vocab_size": -1, "num_hidden_layers": 1.5,
                              "layer_norm_eps": "tiny", "hidden_dropout_prob": []}, "ok"),
    ("classes by dotted path", {"architectures": ["os.system", "builtins.exec", _CODE],
                                "hidden_act": "os.system"}, "refused"),
    ("an activation that is code", {"hidden_act": _CODE}, "refused"),
    ("an activation that is code of classes", {"hidden_act": "torch.nn.Module"}, "refused"),
    ("an activation with escapes", {"hidden_act": _ESCAPES}, "ok"),
    ("an activation of 100 KB", {"hidden_act": "a" * 100_000}, "ok"),
    ("an activation that is a number", {"hidden_act": 5}, "ok"),
    ("a dtype that is code", {"torch_dtype": _CODE, "dtype": "os.system"}, "ok"),
    ("quantised, it says", {"quantization_config": {"quant_method": "bitsandbytes",
                            "load_in_4bit": True, "bnb_4bit_compute_dtype": _CODE}}, "ok"),
    ("quantised by code", {"quantization_config": {"quant_method": "evil", "modules": PYTHON}}, "ok"),
    ("attention from the hub", {"_attn_implementation": "kernels-community/evil",
                                "attn_implementation": "evil/kernel:layer",
                                "_experts_implementation": "evil/kernel"}, "ok"),
    ("a backbone that downloads", {"backbone": "resnet50", "use_timm_backbone": True,
                                   "use_pretrained_backbone": True, "backbone_kwargs": {"x": 1}}, "ok"),
    ("another type", {"model_type": "rag", "architectures": ["RagModel"]}, "ok"),
    ("a type that is none", {"model_type": _CODE}, "ok"),
    ("a type in an object", {"model_type": {"a": "bert"}, "architectures": "BertModel"}, "ok"),
    ("a nested type that is none", {"text_config": {"model_type": "evil"}}, "ok"),
    ("a tokenizer by path", {"tokenizer_class": "evil.Tok", "processor_class": _CODE}, "ok"),
    ("rope of junk", {"rope_scaling": {"type": _CODE, "factor": "NaN", "rope_type": [1]},
                      "rope_theta": 1e308, "rope_parameters": 5}, "refused"),
    ("numbers without end", {"layer_norm_eps": 1e-320, "initializer_range": 1.7e308}, "ok"),
    ("eps of nothing", {"layer_norm_eps": -1e300}, "ok"),
    ("dunder fields", {"__class__": "x", "__init__": PYTHON, "__reduce__": [SHELL], "_x": MARKERS}, "ok"),
    ("fields of the library's own", {"attribute_map": {"hidden_size": "x"}, "sub_configs": {"a": "b"},
                                     "is_decoder": True, "add_cross_attention": True,
                                     "pruned_heads": {"0": [0]}, "torchscript": True}, "refused"),
    ("labels without number", {"id2label": {str(n): "x" for n in range(20_000)}}, "ok"),
    ("depth within", {"x": _NESTED}, "ok"),
)  # fmt: skip

# What isn't an object of strict JSON is left aside whole, and said.
TEXTS: tuple[tuple[str, bytes], ...] = (
    ("deep", b'{"a":' + b"[" * 200_000),
    ("deep and closed", b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"),
    ("a list", b"[1, 2]"),
    ("NaN", b'{"model_type": "bert", "layer_norm_eps": NaN}'),
    ("Infinity", b'{"model_type": "bert", "layer_norm_eps": -Infinity}'),
    ("a number of 5,000 digits", b'{"a": 1' + b"0" * 5000 + b"}"),
    ("a key twice", b'{"model_type": "bert", "model_type": "gpt2"}'),
    ("no UTF-8", b'{"model_type": "b\xff"}'),
    ("nothing", b""),
    ("two megabytes", b'{"a": "' + b"x" * 2_000_000 + b'"}'),
)
