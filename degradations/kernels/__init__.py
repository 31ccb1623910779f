"""Inner loops in machine code: one equation each, every pixel read and written once.

Import a kernel inside the function that needs it: the compiler takes half a second to load.
"""
