"""Weights in and out: Hugging Face checkpoints and PEFT adapters to and from our parameters, and into SGLang
and vLLM servers."""
from bridges.engines.assembly import make_engine
from bridges.engines.verify import check_servers, check_way_to_servers
from bridges.errors import BridgeError
from bridges.hf.exporting import export_model
from bridges.hf.folders import check_replaceable
from bridges.hf.importing import check_tensors, draw_adapters, load_model, model_config
from bridges.peft.adapters import check_adapters, export_adapter, import_adapter, read_lora
from bridges.peft.critics import export_critic, load_critic

__all__ = [
    "BridgeError", "check_adapters", "check_replaceable", "check_servers", "check_tensors",
    "check_way_to_servers", "draw_adapters", "export_adapter", "export_critic", "export_model",
    "import_adapter", "load_critic", "load_model", "make_engine", "model_config", "read_lora"
]
