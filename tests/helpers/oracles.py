"""What tests compare with: torch, transformers' models and PEFT, which the extra test-core leaves out. A test
that asks for one is skipped where it is not installed."""
import pytest


def torch():
    return pytest.importorskip("torch", reason="compares with torch, which the extra test-core leaves out")


def peft():
    torch()
    return pytest.importorskip("peft", reason="compares with PEFT, which the extra test-core leaves out")


def transformers_model(folder, **options):
    """The folder's model as transformers has it, in the dtype of its files unless told."""
    torch()
    import transformers
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def peft_model(folder, adapter, **options):
    """That model with the adapter of a PEFT folder."""
    return peft().PeftModel.from_pretrained(transformers_model(folder), adapter, **options).eval()
