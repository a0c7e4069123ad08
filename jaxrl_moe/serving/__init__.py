"""What others use over HTTP: an OpenAI-compatible endpoint over an engine of this process, and environments.
Needs the extra `serve`."""
from jaxrl_moe.types import UserError

try:
    import fastapi  # noqa: F401
    import pydantic  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise UserError(f"Serving needs {error.name}, which is not installed. It comes with the extra `serve`: "
                    'pip install -e ".[serve]".') from error
