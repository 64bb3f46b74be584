-- Only adds: programs of version 1 go on working beside those of version 2. They know nothing of the new columns, which
-- is what their defaults and line_version are for, and write the time into due_at where version 2 writes 1.
-- Tables are locked in the order in which programs lock them, so that no two wait for each other. Programs wait while the
-- indexes are built, for which all tasks are read.

ALTER TABLE perdure.workers ADD COLUMN stopped boolean NOT NULL DEFAULT false;

ALTER TABLE perdure.tasks
	ADD COLUMN place        bigint NOT NULL DEFAULT 0, -- in the line of those that wait; due_at is 1 for what is due at once
	ADD COLUMN end_by       bigint NOT NULL DEFAULT 0, -- when a sweep looks at a task that waits
	ADD COLUMN turn_stops   bigint NOT NULL DEFAULT 0,
	ADD COLUMN turn_called  boolean NOT NULL DEFAULT false,
	ADD COLUMN line_version bigint NOT NULL DEFAULT 0; -- version, as of the last write that knew these columns

-- Tasks that are due at once, in their order. tasks_due has all others, and all for version 1.
CREATE INDEX tasks_line ON perdure.tasks (func, suspect, place, key) WHERE due_at = 1;
-- Those that version 1 has written come first: a sweep writes their end_by.
CREATE INDEX tasks_end_by ON perdure.tasks (end_by, key) WHERE due_at > 0 AND (end_by > 0 OR turn_cancel OR turn_deadline > 0);
-- tasks_retrying is for version 1 alone. A version that does not work with that one any more drops it, and takes what is
-- due at once out of tasks_due.

CREATE SEQUENCE perdure.places AS bigint INCREMENT BY 1024; -- as many as a transaction takes at once

ALTER TABLE perdure.turns ADD COLUMN detail text NOT NULL DEFAULT '';

ALTER TABLE perdure.mail
	ADD COLUMN behind  bigint NOT NULL DEFAULT 0,
	ADD COLUMN version bigint NOT NULL DEFAULT 0;

CREATE TABLE perdure.removed ( -- tasks that are gone, and whose turns, metadata and events are still to be removed
	task bigint PRIMARY KEY
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE perdure.requests ( -- operations that are recognised when they are repeated
	task   text NOT NULL, -- the task's ID
	id     text NOT NULL,
	op     text NOT NULL,
	answer text NOT NULL, -- JSON
	at     bigint NOT NULL,
	PRIMARY KEY (task, id)
);

CREATE INDEX requests_at ON perdure.requests (at);
