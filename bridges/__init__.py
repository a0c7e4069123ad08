"""Weights in and out: Hugging Face checkpoints and PEFT adapters to and from our parameters."""
from bridges.adapters import export_adapter, import_adapter, read_lora
from bridges.errors import BridgeError
from bridges.exporting import export_model
from bridges.importing import load_model

__all__ = ["BridgeError", "export_adapter", "export_model", "import_adapter", "load_model", "read_lora"]
