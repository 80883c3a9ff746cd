"""The commands of `talkmesh`, a module each: `add` tells the parser of it, and what it sets as `run` does it."""
