"""Chat messages as OpenAI has them -> as chat templates read them."""
from collections.abc import Sequence

from jaxrl_moe.data.chat import messages as rows
from jaxrl_moe.data.tokenizer import Message as Plain
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.openai.protocol import Message


def template_messages(messages: Sequence[Message]) -> list[Plain]:
    """Content becomes one string, and the arguments of tool calls become objects; raises Refusal where they
    are none."""
    try:
        said = [message.model_dump(exclude_none=True, exclude={"type"}) for message in messages]
        return [rows.template_message(message, f"messages.{number}") for number, message in enumerate(said)]
    except OutsideError as error:
        raise Refusal(400, str(error), param="messages") from error
