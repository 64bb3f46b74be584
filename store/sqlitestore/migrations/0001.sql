-- Times are microseconds since 1970 in UTC; NULL means none. Empty text is NULL.

CREATE TABLE settings (
	id   INTEGER PRIMARY KEY,
	json TEXT NOT NULL UNIQUE
);

CREATE TABLE sources (
	id   INTEGER PRIMARY KEY,
	json TEXT NOT NULL UNIQUE
);

CREATE TABLE funcs (
	name     TEXT PRIMARY KEY,
	settings INTEGER NOT NULL REFERENCES settings (id)
) WITHOUT ROWID;

CREATE TABLE tasks (
	key             INTEGER PRIMARY KEY AUTOINCREMENT, -- the incarnation
	id              TEXT NOT NULL UNIQUE,
	func            TEXT NOT NULL,
	title           TEXT,
	description     TEXT,
	tags            TEXT, -- JSON; table tags is its index
	session         TEXT,
	agent           TEXT,
	source          INTEGER NOT NULL REFERENCES sources (id),
	settings        INTEGER NOT NULL REFERENCES settings (id),
	created_at      INTEGER NOT NULL,

	status          TEXT NOT NULL,
	reason          TEXT,
	turn            INTEGER NOT NULL, -- the current turn, else the last
	turn_input_id   TEXT,
	turn_steered    INTEGER NOT NULL,
	turn_entry      TEXT,
	turn_attempt    INTEGER NOT NULL,
	turn_recoveries INTEGER NOT NULL,
	turn_streak     INTEGER NOT NULL,
	turn_started_at INTEGER,
	turn_deadline   INTEGER,
	turn_overdue    INTEGER NOT NULL,
	turn_checkpoint INTEGER NOT NULL,
	turn_cancel     INTEGER NOT NULL,
	cancel_reason   TEXT,
	turn_error      TEXT, -- JSON
	turn_ended      INTEGER NOT NULL,
	last_turn       INTEGER NOT NULL,
	last_input_id   TEXT,
	entered         INTEGER NOT NULL,
	queued          INTEGER NOT NULL,
	nudging         INTEGER NOT NULL,
	worker          TEXT,
	epoch           INTEGER NOT NULL,
	request         INTEGER NOT NULL,
	entered_at      INTEGER,
	due_at          INTEGER,
	wait            TEXT,
	suspect         INTEGER NOT NULL,
	settled_epoch   INTEGER NOT NULL,
	last_event      INTEGER NOT NULL,
	first_event     INTEGER NOT NULL,
	last_emitted    INTEGER NOT NULL,
	mark            INTEGER NOT NULL,
	event_epoch     INTEGER NOT NULL,
	updated_at      INTEGER NOT NULL,
	ended_at        INTEGER,
	expires_at      INTEGER,
	trim_at         INTEGER,
	version         INTEGER NOT NULL
);

CREATE INDEX tasks_due ON tasks (func, suspect, due_at, key) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_worker ON tasks (worker, key) WHERE worker IS NOT NULL;
CREATE INDEX tasks_expires ON tasks (expires_at, key) WHERE expires_at IS NOT NULL;
CREATE INDEX tasks_trim ON tasks (trim_at, key) WHERE trim_at IS NOT NULL;
CREATE INDEX tasks_retrying ON tasks (turn_deadline, key) WHERE wait IN ('retry', 'strict') AND turn_deadline IS NOT NULL;
CREATE INDEX tasks_status ON tasks (status, key) WHERE status <> 'completed';
CREATE INDEX tasks_func ON tasks (func, key);
CREATE INDEX tasks_session ON tasks (session, key) WHERE session IS NOT NULL;
CREATE INDEX tasks_agent ON tasks (agent, key) WHERE agent IS NOT NULL;

CREATE TABLE tags (
	name  TEXT NOT NULL,
	value TEXT NOT NULL,
	task  INTEGER NOT NULL,
	PRIMARY KEY (name, value, task)
) WITHOUT ROWID;

CREATE TABLE turns ( -- one for each input: queue, history and outcomes
	task        INTEGER NOT NULL,
	number      INTEGER NOT NULL,
	input_id    TEXT NOT NULL,
	deliver     TEXT NOT NULL,
	digest_key  TEXT,
	digest      TEXT,
	accepted_at INTEGER NOT NULL,
	status      TEXT, -- the outcome; NULL until the turn has ended
	steered     INTEGER NOT NULL DEFAULT 0,
	superseded  INTEGER NOT NULL DEFAULT 0,
	entry       TEXT,
	attempt     INTEGER NOT NULL DEFAULT 0,
	recoveries  INTEGER NOT NULL DEFAULT 0,
	epoch       INTEGER NOT NULL DEFAULT 0,
	end_event   INTEGER,
	started_at  INTEGER,
	ended_at    INTEGER,
	reason      TEXT,
	error       TEXT, -- JSON
	input       BLOB,
	output      BLOB
);

CREATE UNIQUE INDEX turns_number ON turns (task, number);
CREATE UNIQUE INDEX turns_input ON turns (task, input_id);
CREATE INDEX turns_end ON turns (task, end_event) WHERE end_event IS NOT NULL;

CREATE TABLE metadata (
	task  INTEGER NOT NULL,
	key   TEXT NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY (task, key)
) WITHOUT ROWID;

CREATE TABLE events ( -- one for each flush: the events first to last
	task    INTEGER NOT NULL,
	first   INTEGER NOT NULL,
	last    INTEGER NOT NULL,
	turn    INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	epoch   INTEGER NOT NULL,
	at      INTEGER NOT NULL,
	rewind  INTEGER, -- when not NULL, event first is a rewind to this number
	data    BLOB     -- messages, each with its length (uvarint) before it
);

CREATE INDEX events_task ON events (task, last);
CREATE INDEX events_rewind ON events (task, first) WHERE rewind IS NOT NULL;

CREATE TABLE workers (
	id         TEXT PRIMARY KEY,
	host       TEXT,
	pid        INTEGER NOT NULL,
	program    TEXT,
	version    TEXT,
	funcs      TEXT NOT NULL, -- JSON
	running    INTEGER NOT NULL,
	started_at INTEGER NOT NULL,
	beat_at    INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	dead       INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE mail (
	seq    INTEGER PRIMARY KEY AUTOINCREMENT,
	worker TEXT NOT NULL,
	task   TEXT NOT NULL,
	key    INTEGER NOT NULL,
	epoch  INTEGER NOT NULL,
	kind   TEXT NOT NULL,
	reason TEXT
);

CREATE INDEX mail_worker ON mail (worker, seq);
