"""Time: the loop, its clock, its seeds, its checkpoints. Knows nothing of any recipe but the protocol in recipe.py."""
