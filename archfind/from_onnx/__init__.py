"""An .onnx file -> a module that trains: a library's own, where its weights can be led back to it,
else the graph itself. Either is compared with onnxruntime before it is given out."""

from __future__ import annotations

from archfind.from_onnx.recover import build_from_graph, graph_module

__all__ = ["build_from_graph", "graph_module"]
