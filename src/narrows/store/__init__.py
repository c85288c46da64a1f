"""A network as one packed file: its structure as JSON, its weights coded; nothing is pickled."""

from narrows.store.file import load_network as load_network
from narrows.store.file import pack_network as pack_network
from narrows.store.file import save_network as save_network
