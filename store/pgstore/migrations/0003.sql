-- Only adds: programs of versions 1 and 2 go on working beside those of version 3. They judge leases by the clock alone.

CREATE TABLE perdure.timeline ( -- which history of the database the server continues, and since when by its clock
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	timeline text NOT NULL,
	since    bigint NOT NULL
);
