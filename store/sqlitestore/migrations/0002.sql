-- Places in the line of those that wait; what nobody runs ends by itself; request IDs; removal in pieces.

CREATE TABLE line (
	id    INTEGER PRIMARY KEY, -- 1
	place INTEGER NOT NULL     -- the last that was given
);

CREATE TABLE abandoned ( -- deleted tasks whose turns, metadata and events are still to be removed
	task INTEGER PRIMARY KEY
);

CREATE TABLE requests ( -- signals and deletes that were applied, by the names under which they are repeated
	key    INTEGER PRIMARY KEY,
	task   TEXT NOT NULL, -- its ID
	id     TEXT NOT NULL,
	op     TEXT NOT NULL,
	answer TEXT NOT NULL, -- JSON
	at     INTEGER NOT NULL,
	UNIQUE (task, id)
);

CREATE INDEX requests_at ON requests (at);

ALTER TABLE tasks ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN end_by INTEGER;
ALTER TABLE tasks ADD COLUMN turn_stops INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN turn_called INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN version INTEGER NOT NULL DEFAULT 0;

DROP INDEX tasks_due;
DROP INDEX tasks_retrying;

UPDATE tasks SET place = line.place, end_by = CASE WHEN turn_cancel THEN updated_at ELSE turn_deadline END
	FROM (SELECT key, row_number() OVER (ORDER BY due_at, key) AS place FROM tasks WHERE due_at IS NOT NULL) AS line
	WHERE line.key = tasks.key;

-- From now on due_at is 1 where a task waits for no time.
UPDATE tasks SET due_at = 1 WHERE due_at IS NOT NULL AND (status = 'in_progress' OR wait = 'capacity');

INSERT INTO line (id, place) SELECT 1, coalesce(max(place), 0) FROM tasks;

CREATE INDEX tasks_due ON tasks (func, suspect, due_at, place, key) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_end ON tasks (end_by, key) WHERE end_by IS NOT NULL;
