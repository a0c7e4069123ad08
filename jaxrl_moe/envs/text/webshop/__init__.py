"""WebShop: a product is searched for and bought by an instruction, in a small shop of our own or over
WebShop's own files."""
from jaxrl_moe.envs.text.webshop.task import WebShop

__all__ = ["WebShop"]
