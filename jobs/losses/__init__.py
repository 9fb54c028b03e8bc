"""Losses and penalties: pure functions of networks and tensors. One idea a file."""
