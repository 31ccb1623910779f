"""Air, rain and drops."""
