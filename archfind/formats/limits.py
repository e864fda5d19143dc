"""How much an honest checkpoint needs; a file that asks for more is refused, not believed.

Each number is several times what the largest known honest file needs (200,000 tensors in one
pickle, 45,000 in one safetensors header), and small enough that a hostile file of 100 MB ends
within 10 s and 512 MB.
"""

from __future__ import annotations

PICKLE_BYTES = 64 << 20
PICKLE_OPS = 12_000_000
PICKLE_MARKS = 1_000_000
PICKLE_OBJECTS = 4_000_000  # tuples, strings, containers and calls, of about 60 bytes each
PICKLE_STACK = 2_000_000
PICKLE_MEMO = 4_000_000
INNER_PICKLES = 100_000  # in the bytes that a pickle holds; plain pickles have one for each tensor
TEXT_BYTES = 1 << 20  # one string in a pickle
INT_BYTES = 1 << 10  # Python's str() of an int takes quadratic time
GLOBALS = 10_000  # distinct ones; whole pickled networks name some hundreds
NAME_LENGTH = 1_000  # a global's dotted name
LINE_BYTES = 1 << 14  # an argument of a text opcode

ZIP_MEMBERS = 200_000 + 1_000  # 200,000 tensors and what torch adds beside them
ZIP_INFLATED = 256 << 20  # all members that are inflated to be read
ZIP_RATIO = 200  # deflated pickles shrink about 10:1

HEADER_BYTES = 100_000_000  # safetensors' own limit
JSON_BYTES = 64 << 20
JSON_WIDE = 40_000_000  # of text that isn't plain ASCII
JSON_OPENINGS = 2_000_000  # brackets and braces: three per tensor
JSON_COMMAS = 2_500_000  # about seven per tensor
JSON_PAIRS = 1_250_000  # four per tensor
SHARDS = 10_000

SIDE_BYTES = 1 << 20  # config.json and its like; the largest known one has 200 KB
SIDE_DEPTH = 32  # levels of JSON in it; a pipeline's configs have about six
SIDE_WORD = 200  # characters of a field
SIDE_LIST = 1_000  # entries of a field that is a list; the longest name each of 200 layers
SIDE_NUMBER = 1 << 24  # a claimed size or count; the longest known context has 10,485,760
PLAN_BYTES = 64 << 20  # a plan names every key that it moves

TENSORS = 300_000  # in one header; of a pickle, the limits above are reached at about as many
GGUF_FIELDS = 6_000_000  # numbers and lengths; a vocabulary has 260,000
PROTOBUF_FIELDS = 2_000_000
ONNX_STRING = 1 << 20

KEY_LENGTH = 2_000  # the longest of published checkpoints have about 200
KEY_DEPTH = 200  # dots and slashes

WALK_DEPTH = 1_000
WALK_VISITS = 1_000_000
WALK_TEXT = 64_000_000  # characters of all pointers and metadata together
METADATA_ENTRIES = 100_000
METADATA_TEXT = 10_000
MODULE_ATTRIBUTES = 20_000
SHORT_LIST = 16
SOURCES = 200  # pieces of Python source within a file
DANGER_LINES = 100
DIMENSION = 1 << 63
DIMENSIONS = 64  # torch's own limit
