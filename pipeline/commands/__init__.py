"""One module per command of `python -m pipeline`, each with `add_to(commands)`, its options and what it does."""
