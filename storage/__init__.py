"""Records, samples, shards, commits and errors: what everything else is written with."""
