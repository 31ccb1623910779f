"""Restoring an image of any size with trained weights, on a card of any size."""
