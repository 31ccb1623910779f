"""Scores of restored images by RealIR-Bench's protocol, and what others published."""
