"""Work on one work shard: the map stages and the exchanges between them. Only `remote` imports ray."""
