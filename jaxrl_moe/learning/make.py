"""The learner that a configuration asks for."""
import dataclasses

from jaxrl_moe.config import Config
from jaxrl_moe.model.config import LoraConfig


def lora_config(config: Config) -> LoraConfig | None:
    """The adapters that a run trains, with their routers if moe.router says so; None in full fine-tuning."""
    return LoraConfig(**dataclasses.asdict(config.lora), router=config.moe.router == "train") if config.lora.rank else None


def keeps_reference(config: Config) -> bool:
    """Whether a run keeps the weights that it starts from: full fine-tuning with a KL term, which has no adapters to leave out."""
    return config.lora.rank == 0 and config.algorithm.kl_coef > 0
