"""Weights in every published format, read and written strictly, tensor by tensor."""
