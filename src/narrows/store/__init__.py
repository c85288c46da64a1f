"""A network as one file: its structure as JSON, its weights as safetensors; nothing is pickled."""

from narrows.store.file import load_network as load_network
from narrows.store.file import save_network as save_network
