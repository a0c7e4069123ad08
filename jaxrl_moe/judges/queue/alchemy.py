"""SQLAlchemy, for the modules of this room: the one place that says how to install it."""
from jaxrl_moe.types import UserError

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql, sqlite
except ImportError as error:
    raise UserError("The judges' queue is kept by SQLAlchemy, which is not installed. It comes with the "
                    'extra `judges`: pip install -e ".[judges]".') from error

__all__ = ["postgresql", "sa", "sqlite"]
