-- What nodes compare with each other: the version of their programs, the newest format of journals that each reads, and digests of
-- their settings. A shard has the newest format of its journals, so that only nodes that read it claim the shard.
ALTER TABLE node ADD COLUMN version text NOT NULL DEFAULT '', ADD COLUMN reads int NOT NULL DEFAULT 1, ADD COLUMN settings text NOT NULL DEFAULT '';
ALTER TABLE shard ADD COLUMN format int NOT NULL DEFAULT 0;
