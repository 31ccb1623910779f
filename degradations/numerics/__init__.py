"""What every simulation is made of: light and codes, rows in the cache, filters, random numbers and fields, regions."""
