"""A vLLM worker extension: takes weights from a folder, and makes that right for a Mixture of Experts on CPU.

It runs inside the server, in an environment that has vLLM and torch but not this package, so it imports neither; the folder
that holds it goes on the server's PYTHONPATH. The server is started with

    --worker-extension-cls jaxrl_vllm_worker.Extension --weight-transfer-config '{"backend": "disk"}'

Written against vLLM 0.32.
"""
import dataclasses
import os
import pathlib

from safetensors import safe_open
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as fused_moe
from vllm.model_executor.layers.fused_moe.oracle import unquantized as oracle
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.platforms import current_platform


@dataclasses.dataclass
class Nothing(WeightTransferInitInfo):
    """The folder comes with each update."""


@dataclasses.dataclass
class Folder(WeightTransferUpdateInfo):
    """path: a folder of safetensors files in Hugging Face's spelling, readable by the server."""
    path: str


class DiskTransfer(WeightTransferEngine):
    """Loads all tensors of a folder, one at a time, as if the model was started from them."""
    init_info_cls = Nothing
    update_info_cls = Folder

    def init_transfer_engine(self, init_info):
        pass

    def start_weight_update(self):
        if current_platform.is_cpu():
            forget_packed_experts(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info):
        files = sorted(pathlib.Path(update_info.path).glob("*.safetensors"))
        if not files:
            raise ValueError(f"{update_info.path} holds no safetensors files that this server can see")
        self.model.load_weights(tensors(files))

    def finish_weight_update(self):
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self):
        pass


def tensors(files):
    """(name, tensor) of every tensor of the files."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  a safetensors file is no mapping
                yield name, file.get_tensor(name)


def forget_packed_experts(model):
    """On CPU vLLM packs the experts' weights when it makes their kernel, and only then: a reload leaves the old packing in
    place, and answers 200. Without a kernel the reload makes one, and packs what it read."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        method = getattr(method, "base_quant_method", method)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def leave_experts_to_the_cpu_kernel():
    """With LoRA on, vLLM gives experts a Triton kernel, which no CPU runs, even where only attention is adapted. An adapter's
    experts are then ignored in silence, so this is for servers that never get such adapters."""
    choose = oracle.select_unquantized_moe_backend

    def without_lora(moe_config, *args, **kwargs):
        moe_config.is_lora_enabled = False
        return choose(moe_config, *args, **kwargs)

    oracle.select_unquantized_moe_backend = without_lora
    if hasattr(fused_moe, "select_unquantized_moe_backend"):
        fused_moe.select_unquantized_moe_backend = without_lora


WeightTransferEngineFactory.register_engine("disk", DiskTransfer)
if os.environ.get("JAXRL_LORA_ON_ATTENTION_ONLY") and current_platform.is_cpu():
    leave_experts_to_the_cpu_kernel()


class Extension:
    """vLLM mixes this class into its worker; importing its module is what matters."""
