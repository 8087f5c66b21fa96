"""Configs: how they are composed, what an option may be, and what is refused before anything is built."""
