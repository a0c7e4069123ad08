"""The chat template of a checkpoint: messages to text, of which nothing may be lost on the way."""
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.data.chat import reach
from jaxrl_moe.data.chat.literals import Literals
from jaxrl_moe.data.chat.reach import Message
from jaxrl_moe.spelling import cut, escaped, quoted
from jaxrl_moe.types import UserError

_MOST_SHAPES = 10_000  # that are remembered; a server sees ever new ones


class TokenizerError(UserError):
    """The tokenizer is missing, or cannot do what the data needs."""


class ChatTemplate:
    """The chat template of a transformers tokenizer. Texts come back hidden, see Literals: what messages
    spell is told from what the template wrote.

    Attributes:
      literals: hides and shows control tokens.
    """

    def __init__(self, hf: Any, path: str, literals: Literals) -> None:
        self.literals = literals
        self._hf = hf
        self._path = path
        self._sound: set[Any] = set()
        self._closings: dict[Any, int] = {}

    @property
    def source(self) -> str:
        """As Jinja; empty where there is none."""
        template = self._hf.chat_template or ""
        return template if isinstance(template, str) else "\n".join(template.values())

    @property
    def variables(self) -> frozenset[str]:
        """What it reads and does not set itself, such as tools."""
        return _variables(self.source)

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = True,
               tools: Sequence[Message] = (), variables: Mapping[str, Any] | None = None,
               continue_final: bool = False) -> str:
        """Returns the messages as one hidden text; arguments and errors are those of
        Tokenizer.render_text."""
        variables = dict(variables or {})
        self._check_variables([*(["tools"] if tools else []), *variables], variables)
        hide = self.literals.hide
        return self._apply(hide(messages), hide(tools), hide(variables), generation_prompt, continue_final)

    def check(self, messages: Sequence[Message], *, generation_prompt: bool = True,
              tools: Sequence[Message] = (), variables: Mapping[str, Any] | None = None) -> None:
        """Looks whether all that messages and tools say reaches the text, once for each shape of a
        conversation.

        Raises:
          TokenizerError: the template leaves something out; message, role and field are named.
        """
        shape = (self._shape(messages, tools, variables), generation_prompt)
        if shape in self._sound:
            return

        def render(messages: Sequence[Message], tools: Sequence[Message], generation_prompt: bool) -> str:
            return self.render(messages, generation_prompt=generation_prompt, tools=tools,
                               variables=variables)

        for owner in reach.lost(render, messages, tools, generation_prompt):
            whose = "a tool" if owner.message is None else (
                f"message {owner.message} (role {quoted(messages[owner.message].get('role'))})")
            raise TokenizerError(f"The chat template of {self._path!r} leaves out `{cut(owner.field)}` of "
                                 f"{whose}, so the model would never see it. Say it in another way, such as "
                                 "in the content of a role that the template knows, leave it out yourself, "
                                 "or use a model whose template has it.")
        if len(self._sound) >= _MOST_SHAPES:
            self._sound.clear()
        self._sound.add(shape)

    def closing(self, messages: Sequence[Message], *, tools: Sequence[Message] = (),
                variables: Mapping[str, Any] | None = None) -> int:
        """Returns how many control tokens the template writes after all that the last message says; the first
        of them ends the turn."""
        shape = self._shape(messages, tools, variables)
        if shape not in self._closings:
            marks = reach.Marks()
            marked = reach.mark_messages(messages, marks)
            last = len(messages) - 1
            if not any(owner.message == last for owner in marks.values()):  # it says nothing
                marked[-1] = {**marked[-1], "content": marks.new(last, "content")}
            text = self.render(marked, generation_prompt=False, tools=tools, variables=variables)
            said = max((match.end() for match in marks.within(text)), default=0)
            if len(self._closings) >= _MOST_SHAPES:
                self._closings.clear()
            self._closings[shape] = len(self.literals.control(text, said))
        return self._closings[shape]

    def _shape(self, messages: Sequence[Message], tools: Sequence[Message],
               variables: Mapping[str, Any] | None) -> Any:
        return str(self._hf.chat_template), reach.shape(messages, tools), repr(variables)

    def _apply(self, messages: Sequence[Message], tools: Sequence[Message], variables: Mapping[str, Any],
               generation_prompt: bool, continue_final: bool) -> str:
        if not self._hf.chat_template:
            raise TokenizerError(f"The tokenizer in {self._path!r} has no chat template. Put a "
                                 "chat_template.jinja beside it (that of the model's instruct version fits), "
                                 "or choose a model that has one.")
        if continue_final:
            self._check_continued(messages)
        try:
            return self._hf.apply_chat_template(
                list(messages), tools=list(tools) or None, tokenize=False,
                add_generation_prompt=generation_prompt and not continue_final,
                continue_final_message=continue_final, **variables)
        except Exception as error:  # Jinja raises its own classes, and templates raise whatever they like
            roles = [message.get("role") for message in messages]
            raise TokenizerError(f"The chat template of {self._path!r} refuses a conversation with the roles "
                                 f"{cut(str(roles))}: {cut(escaped(str(error)), 600)}. Change the messages "
                                 "to what the template accepts.") from error

    def _check_continued(self, messages: Sequence[Message]) -> None:
        last = messages[-1] if messages else {}
        if last.get("role") != "assistant" or not last.get("content") or last.get("tool_calls"):
            raise TokenizerError("Only a last message of the assistant that has a text, and calls no tool, "
                                 f"can be continued; the last one is of {last.get('role')!r}.")

    def _check_variables(self, names: Sequence[str], variables: Mapping[str, Any]) -> None:
        """Refuses what the template would ignore, and variables that are arguments of the renderer itself."""
        if not names or not self._hf.chat_template:
            return
        taken = {"messages", *inspect.signature(self._hf.apply_chat_template).parameters}
        read = self.variables
        for name in names:
            if name not in read or (name in variables and name in taken):
                raise TokenizerError(f"The chat template of {self._path!r} reads no variable {quoted(name)}, "
                                     "so it would have no effect. Leave it out, or use a model whose "
                                     "template has it.")


@functools.lru_cache(maxsize=16)
def _variables(source: str) -> frozenset[str]:
    """The variables that a template reads and does not set itself."""
    import jinja2.ext
    import jinja2.meta

    class Generation(jinja2.ext.Extension):
        """transformers' own block around what an assistant says."""
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = jinja2.Environment(extensions=[Generation, "jinja2.ext.loopcontrols"])
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(source)))
    except jinja2.TemplateError as error:
        raise TokenizerError(f"The chat template is no Jinja template: {error}.") from error
