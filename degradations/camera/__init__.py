"""From light to a picture, as a camera makes one: exposure, lamps, colour, sensor noise and tone."""
