"""Annotators make depth and segments of a clean image: a file here is a backend; `open_annotator` loads one."""
