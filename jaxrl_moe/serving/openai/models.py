"""What the server calls its weights. One policy is served at a time: the base model, or an adapter over
it."""
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxrl_moe.foreign_errors import first_sentence
from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.types import UserError

Load = Callable[[str], Any]  # PEFT folder -> nnx.State of the whole model under it; "" -> without any adapter


class Models:
    """The names under which requests are answered.

    Args:
      front: gets the weights of an adapter.
      name: of the model; in training, of the policy, whatever its version.
      path: where it was read from, for who asks.
      load: reads an adapter; raises UserError. None: adapters cannot be loaded, as in training, whose loop
        publishes.
      adapter: (name, folder) of the adapter that the engine starts with.
    """

    def __init__(self, front: EngineFront, name: str, path: str = "", load: Load | None = None,
                 adapter: tuple[str, str] | None = None):
        self._front = front
        self._name = name
        self._path = path
        self._load = load
        self._adapter = adapter
        self._lock = threading.Lock()
        self._created = int(time.time())

    def check(self, name: str) -> None:
        """Raises Refusal unless that is what the engine holds."""
        if name != self.name:
            raise Refusal(404, f"There is no model {shortened(name)} here; this server has {self.name!r} in "
                               "its engine.", param="model", code="model_not_found")

    @property
    def name(self) -> str:
        return self._adapter[0] if self._adapter else self._name

    def cards(self, context: int) -> list[dict[str, Any]]:
        """The entries of /v1/models."""
        path, parent = (self._adapter[1], self._name) if self._adapter else (self._path, None)
        return [{
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "jaxrl_moe",
            "root": path,
            "parent": parent,
            "max_model_len": context,
            "policy_version": self._front.version
        }]

    def load(self, name: str, path: str, replace: bool) -> str:
        """Publishes an adapter in place of what is served; says so. Waits for the file and for the engine's
        step."""
        with self._lock:
            if name == self._name or (self._adapter and name == self._adapter[0] and not replace):
                raise Refusal(
                    400, f"The name {shortened(name)} is in use. Choose another"
                    f"{'' if name == self._name else ', or send load_inplace: true to replace the adapter'}.",
                    param="lora_name")
            former = self.name
            self._publish(path)
            self._adapter = name, path
        return f"Adapter {name!r} is served in place of {former!r}, as version {self._front.version}."

    def unload(self, name: str) -> str:
        """Goes back to the model without an adapter."""
        with self._lock:
            if not self._adapter or name != self._adapter[0]:
                raise Refusal(404, f"There is no adapter {shortened(name)} here.", param="lora_name",
                              code="model_not_found")
            self._publish("")
            self._adapter = None
        return f"Model {self._name!r} is served without adapter {name!r}, as version {self._front.version}."

    def _publish(self, path: str):
        if self._load is None:
            raise Refusal(400, "This server takes no adapters: its model was loaded without room for them, "
                               "or is in training.")
        self._front.publish(self._weights(path), self._front.version + 1)

    def _weights(self, path: str) -> Any:
        """The weights under an adapter. Whatever is wrong with files that a client named is the client's to
        mend; what is served stays."""
        try:
            return self._load(path)
        except UserError:
            raise
        except Exception as error:
            logging.getLogger(__name__).warning("An adapter could not be loaded", exc_info=error)
            said = f"{type(error).__name__}: {first_sentence(error)}"
            raise Refusal(400, f"The adapter {shortened(path)} cannot be loaded: {said} {self.name!r} is "
                               "served as before.", param="lora_path") from error
