-- Times are microseconds since 1970 in UTC; 0 means none. Empty text means none.
-- Tables whose rows change often leave room in their pages, so that an update stays in its page and touches
-- no index (HOT), and are vacuumed early.

CREATE TABLE perdure.funcs (
	name     text PRIMARY KEY,
	settings text NOT NULL -- JSON
);

CREATE SEQUENCE perdure.incarnations AS bigint;

CREATE TABLE perdure.tasks (
	key             bigint PRIMARY KEY, -- the incarnation
	id              text NOT NULL,
	func            text NOT NULL,
	title           text NOT NULL,
	description     text NOT NULL,
	tags            text NOT NULL, -- JSON; table tags is its index
	session         text NOT NULL,
	agent           text NOT NULL,
	source          text NOT NULL, -- JSON
	settings        text NOT NULL, -- JSON
	created_at      bigint NOT NULL,

	status          text NOT NULL,
	turn_deadline   bigint NOT NULL,
	worker          text NOT NULL,
	due_at          bigint NOT NULL,
	wait            text NOT NULL,
	suspect         boolean NOT NULL,
	expires_at      bigint NOT NULL,
	trim_at         bigint NOT NULL,

	reason          text NOT NULL,
	turn            bigint NOT NULL, -- the current turn, else the last
	turn_input_id   text NOT NULL,
	turn_steered    boolean NOT NULL,
	turn_entry      text NOT NULL,
	turn_attempt    bigint NOT NULL,
	turn_recoveries bigint NOT NULL,
	turn_streak     bigint NOT NULL,
	turn_started_at bigint NOT NULL,
	turn_overdue    boolean NOT NULL,
	turn_checkpoint bigint NOT NULL,
	turn_cancel     boolean NOT NULL,
	cancel_reason   text NOT NULL,
	turn_error      text NOT NULL, -- JSON
	turn_ended      boolean NOT NULL,
	last_turn       bigint NOT NULL,
	last_input_id   text NOT NULL,
	entered         boolean NOT NULL,
	queued          bigint NOT NULL,
	nudging         bigint NOT NULL,
	epoch           bigint NOT NULL,
	request         bigint NOT NULL,
	entered_at      bigint NOT NULL,
	settled_epoch   bigint NOT NULL,
	last_event      bigint NOT NULL,
	first_event     bigint NOT NULL,
	last_emitted    bigint NOT NULL,
	mark            bigint NOT NULL,
	event_epoch     bigint NOT NULL,
	updated_at      bigint NOT NULL,
	ended_at        bigint NOT NULL,
	version         bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE UNIQUE INDEX tasks_id ON perdure.tasks (id);
CREATE INDEX tasks_due ON perdure.tasks (func, suspect, due_at, key) WHERE due_at > 0;
CREATE INDEX tasks_worker ON perdure.tasks (worker, key) WHERE worker <> '';
CREATE INDEX tasks_expires ON perdure.tasks (expires_at, key) WHERE expires_at > 0;
CREATE INDEX tasks_trim ON perdure.tasks (trim_at, key) WHERE trim_at > 0;
CREATE INDEX tasks_retrying ON perdure.tasks (turn_deadline, key) WHERE wait IN ('retry', 'strict') AND turn_deadline > 0;
CREATE INDEX tasks_status ON perdure.tasks (status, key) WHERE status <> 'completed';
CREATE INDEX tasks_func ON perdure.tasks (func, key);
CREATE INDEX tasks_session ON perdure.tasks (session, key) WHERE session <> '';
CREATE INDEX tasks_agent ON perdure.tasks (agent, key) WHERE agent <> '';

CREATE TABLE perdure.tags (
	name  text NOT NULL,
	value text NOT NULL,
	task  bigint NOT NULL,
	PRIMARY KEY (name, value, task)
);

CREATE INDEX tags_task ON perdure.tags (task);

CREATE TABLE perdure.turns ( -- one for each input: queue, history and outcomes
	task        bigint NOT NULL,
	number      bigint NOT NULL,
	input_id    text NOT NULL,
	deliver     text NOT NULL,
	digest_key  text NOT NULL,
	digest      text NOT NULL,
	accepted_at bigint NOT NULL,
	status      text NOT NULL DEFAULT '', -- the outcome; empty until the turn has ended
	steered     boolean NOT NULL DEFAULT false,
	superseded  boolean NOT NULL DEFAULT false,
	entry       text NOT NULL DEFAULT '',
	attempt     bigint NOT NULL DEFAULT 0,
	recoveries  bigint NOT NULL DEFAULT 0,
	epoch       bigint NOT NULL DEFAULT 0,
	end_event   bigint NOT NULL DEFAULT 0,
	started_at  bigint NOT NULL DEFAULT 0,
	ended_at    bigint NOT NULL DEFAULT 0,
	reason      text NOT NULL DEFAULT '',
	error       text NOT NULL DEFAULT '', -- JSON
	input       bytea,
	output      bytea,
	PRIMARY KEY (task, number)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE UNIQUE INDEX turns_input ON perdure.turns (task, input_id);
CREATE INDEX turns_end ON perdure.turns (task, end_event) WHERE end_event > 0;

CREATE TABLE perdure.metadata (
	task  bigint NOT NULL,
	key   text NOT NULL,
	value bytea NOT NULL,
	PRIMARY KEY (task, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE perdure.events ( -- one for each flush: the events first to last
	task    bigint NOT NULL,
	first   bigint NOT NULL,
	last    bigint NOT NULL,
	turn    bigint NOT NULL,
	attempt bigint NOT NULL,
	epoch   bigint NOT NULL,
	at      bigint NOT NULL,
	rewind  bigint, -- when not NULL, event first is a rewind to this number
	data    bytea NOT NULL, -- messages, each with its length (uvarint) before it
	PRIMARY KEY (task, last)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX events_rewind ON perdure.events (task, first) WHERE rewind IS NOT NULL;

CREATE TABLE perdure.workers (
	id         text PRIMARY KEY,
	host       text NOT NULL,
	pid        bigint NOT NULL,
	program    text NOT NULL,
	version    text NOT NULL,
	funcs      text NOT NULL, -- JSON
	running    bigint NOT NULL,
	started_at bigint NOT NULL,
	beat_at    bigint NOT NULL,
	expires_at bigint NOT NULL,
	dead       boolean NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE perdure.mailboxes ( -- a row for each worker, locked by who sends: mail is read in the order of its numbers
	worker text PRIMARY KEY
);

CREATE TABLE perdure.mail (
	seq    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	worker text NOT NULL,
	task   text NOT NULL,
	key    bigint NOT NULL,
	epoch  bigint NOT NULL,
	kind   text NOT NULL,
	reason text NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE INDEX mail_worker ON perdure.mail (worker, seq);
