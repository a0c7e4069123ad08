"""A vLLM worker extension: takes weights from folders or a broadcast, and makes that right for a Mixture of
Experts on CPU.

It runs inside the server, in an environment that has vLLM and torch but not this package, so it imports
neither; the folder that holds it goes on the server's PYTHONPATH. The server is started with

    --worker-extension-cls jaxrl_vllm_worker.Extension --weight-transfer-config '{"backend": "jaxrl"}'

Written against vLLM 0.32.
"""
import dataclasses
import datetime
import math
import os
import pathlib
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as fused_moe
from vllm.model_executor.layers.fused_moe.oracle import unquantized as oracle
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
    layerwise,
)
from vllm.platforms import current_platform

SECONDS = 60.0  # until a broadcast has gone through


@dataclasses.dataclass
class GroupToJoin(WeightTransferInitInfo):
    """A group of torch.distributed to join, whose rank 0 is at address:port; without a name there is none to
    join."""
    name: str = ""
    address: str = ""
    port: int = 0
    size: int = 0
    backend: str = "gloo"


@dataclasses.dataclass
class TensorsToLoad(WeightTransferUpdateInfo):
    """Tensors in Hugging Face's spelling: those in the safetensors files of the folder `path`, or such as are
    broadcast in `group`, one behind the other as bytes."""
    path: str = ""
    names: list = ()
    dtypes: list = ()
    shapes: list = ()
    group: str = ""


class TensorLoader(WeightTransferEngine):
    """Loads tensors one at a time, as if the model was started from them.

    An update may bring a part of the model. What vLLM keeps in one array (q, k and v; all experts of a layer)
    must come whole.
    """
    init_info_cls = GroupToJoin
    update_info_cls = TensorsToLoad
    group = None
    group_name = ""
    forgotten = {}

    def init_transfer_engine(self, init_info: Any):
        if init_info.name:
            self.group = self._join(init_info)
            self.group_name = init_info.name

    def _join(self, meeting: GroupToJoin):
        c10d = torch.distributed.distributed_c10d
        timeout = datetime.timedelta(seconds=SECONDS)
        store = torch.distributed.TCPStore(meeting.address, meeting.port, meeting.size, False, timeout)
        config = self.parallel_config
        rank = 1 + config.data_parallel_index * config.world_size + config.rank
        group, _ = c10d._new_process_group_helper(meeting.size, rank, [], c10d.Backend(meeting.backend),
                                                  c10d.PrefixStore(meeting.name, store),
                                                  group_name=meeting.name, timeout=timeout)
        self.device_of_broadcasts = self.device if meeting.backend == "nccl" else "cpu"
        return group

    def start_weight_update(self):
        forget_half_loaded(self.model)
        if current_platform.is_cpu():
            self.forgotten = self.forgotten | forget_packed_experts(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: Any):
        try:
            self._load(update_info)
        except BaseException:
            # the update has ended: requests must find arrays to compute with, if those of two versions
            forget_half_loaded(self.model)
            self._remember_experts()
            raise

    def _load(self, update_info: Any):
        if update_info.group:
            self.model.load_weights(self._broadcast(update_info))
            return
        files = sorted(pathlib.Path(update_info.path).glob("*.safetensors")) if update_info.path else []
        if not files:
            raise ValueError(f"{update_info.path or 'an update without a path'} holds no safetensors files "
                             "that this server can see")
        self.model.load_weights(tensors(files))

    def _broadcast(self, announced: TensorsToLoad):
        if announced.group != self.group_name:
            raise ValueError(f"the group {announced.group} is not the one that was joined, "
                             f"{self.group_name or 'none'}")
        kinds = [getattr(torch, dtype) for dtype in announced.dtypes]
        sizes = [math.prod(shape) * kind.itemsize for kind, shape in zip(kinds, announced.shapes)]
        flat = torch.empty(sum(sizes), dtype=torch.uint8, device=self.device_of_broadcasts)
        self.group.broadcast([flat], torch.distributed.BroadcastOptions()).wait()
        for name, kind, shape, piece in zip(announced.names, kinds, announced.shapes, flat.split(sizes)):
            yield name, piece.view(kind).reshape(shape)

    def finish_weight_update(self):
        finalize_layerwise_reload(self.model, self.model_config)
        self._remember_experts()

    def _remember_experts(self):
        for method, kernel in self.forgotten.items():
            # None: experts that the update left as they were, so their kernel serves on
            method.moe_kernel = kernel if method.moe_kernel is None else method.moe_kernel
        self.forgotten = {}

    def shutdown(self):
        self.group = None
        self.group_name = ""


def tensors(files: Any):
    """(name, tensor) of every tensor of the files."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  a safetensors file is no mapping
                yield name, file.get_tensor(name)


def forget_half_loaded(model: Any):
    """An update that ended half-way left layers that wait for the rest of their tensors: with those of the
    next update they would be filled from both. Each gets back the arrays that it had."""
    for module in model.modules():
        info = layerwise.get_layerwise_info(module)
        if info.can_load() and info.kernel_tensors is not None:
            layerwise._place_kernel_tensors(module, info)
            info.reset()


def forget_packed_experts(model: Any):
    """On CPU vLLM packs the experts' weights when it makes their kernel, and only then: a reload leaves the
    old packing in place, and answers 200. Without a kernel the reload makes one, and packs what it read.
    Returns what was forgotten."""
    forgotten = {}
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        method = getattr(method, "base_quant_method", method)
        if getattr(method, "moe_kernel", None) is not None:
            forgotten[method], method.moe_kernel = method.moe_kernel, None
    return forgotten


def leave_experts_to_the_cpu_kernel():
    """With LoRA on, vLLM gives experts a Triton kernel, which no CPU runs, even where only attention is
    adapted. An adapter's experts are then ignored in silence, so this is for servers that never get such
    adapters."""
    choose = oracle.select_unquantized_moe_backend

    def without_lora(moe_config: Any, *args, **kwargs):
        moe_config.is_lora_enabled = False
        return choose(moe_config, *args, **kwargs)

    oracle.select_unquantized_moe_backend = without_lora
    if hasattr(fused_moe, "select_unquantized_moe_backend"):
        fused_moe.select_unquantized_moe_backend = without_lora


WeightTransferEngineFactory.register_engine("jaxrl", TensorLoader)
if os.environ.get("JAXRL_LORA_ON_ATTENTION_ONLY") and current_platform.is_cpu():
    leave_experts_to_the_cpu_kernel()


class Extension:
    """vLLM mixes this class into its worker; importing its module is what matters."""
