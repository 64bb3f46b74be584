package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/perdure/perdure/store"
)

const (
	sqlSettings = `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
		current_schemas(true)::text[], current_setting('search_path')`
	// sqlReplication reads what a role may see: whether a standby is synchronous is told to few.
	sqlReplication = `SELECT current_setting('synchronous_standby_names'), count(r.pid),
			count(*) FILTER (WHERE r.sync_state IN ('sync', 'quorum')), count(*) FILTER (WHERE r.pid IS NOT NULL AND r.sync_state IS NULL)
		FROM (SELECT) one LEFT JOIN pg_stat_replication r ON true`
)

// Replication is how the database is replicated.
type Replication struct {
	// Timeline is the number of the server's timeline, which each failover raises; 0 if the server does not tell.
	Timeline int64

	// Names is the server's setting synchronous_standby_names. Without any, a failover may lose what was acknowledged.
	Names string

	// Standbys are the servers that replicate from this one, and Synchronous those of them whose confirmation a commit waits
	// for; -1 if the role may not see that, as it may with pg_monitor.
	Standbys, Synchronous int
}

// Replication tells how the database is replicated. ctx bounds it.
func (s *Store) Replication(ctx context.Context) (*Replication, error) {
	r := &Replication{}
	var hidden int
	server, err := s.whichServer(ctx)
	if err == nil {
		err = s.writes.QueryRow(ctx, sqlReplication).Scan(&r.Names, &r.Standbys, &r.Synchronous, &hidden)
	}
	if err != nil {
		return nil, s.explain(fmt.Errorf("read replication: %w", err))
	}
	if hidden > 0 {
		r.Synchronous = -1
	}
	r.Timeline = timelineOf(server)
	return r, nil
}

// timelineOf reads the number of the timeline out of a server's name.
func timelineOf(server string) int64 {
	fields := strings.Fields(server)
	if len(fields) < 3 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[2], 16, 64) // a server's own spelling
	return n
}

// Warnings tells what of the server's settings puts at risk what operations have been acknowledged for; nothing when all
// is well. ctx bounds it.
func (s *Store) Warnings(ctx context.Context) ([]string, error) {
	var fsync, fullPages, commit, path string
	var schemas []string
	if err := s.writes.QueryRow(ctx, sqlSettings).Scan(&fsync, &fullPages, &commit, &schemas, &path); err != nil {
		return nil, s.explain(fmt.Errorf("read settings: %w", err))
	}
	r, err := s.Replication(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	if fsync == "off" {
		found = append(found, "fsync is off: a crash of the server's machine loses what was acknowledged, and may destroy the database")
	}
	if fullPages == "off" {
		found = append(found, "full_page_writes is off: a crash of the server's machine may destroy the database, unless its disk writes pages as a whole")
	}
	if s.opts.UnsafeNoSync && commit != "on" && commit != "remote_apply" {
		found = append(found, fmt.Sprintf("synchronous_commit is %s, and UnsafeNoSync leaves it: a crash of the server loses what was acknowledged last", commit))
	}
	if slices.Index(schemas, "pg_catalog") > 0 && !strings.HasPrefix(schemas[0], "pg_temp") {
		found = append(found, fmt.Sprintf("search_path is %s: functions of other schemas come before Postgres' own", path))
	}
	return append(found, r.warnings()...), nil
}

func (r *Replication) warnings() []string {
	switch {
	case r.Names == "" && r.Standbys > 0:
		return []string{fmt.Sprintf("synchronous_standby_names is empty, and the server has %d standbys: a failover to one loses what it had not got yet", r.Standbys)}
	case r.Names != "" && r.Standbys == 0, r.Names != "" && r.Synchronous == 0:
		return []string{fmt.Sprintf("none of the standbys of synchronous_standby_names (%s) is there: nothing that is written is acknowledged", r.Names)}
	}
	return nil
}

// Gauges implements store.Gauger.
func (s *Store) Gauges() []store.Gauge {
	waiting, _ := s.commits.waiting("")
	return []store.Gauge{
		{Name: "commits_waiting", Help: "Commits that wait for the database's standbys, or for the database, for longer than their callers.", Value: int64(waiting)},
		{Name: "database_timeline", Help: "The timeline of the database server that was met last; a failover raises it.", Value: timelineOf(s.servers.met())},
	}
}

var _ store.Gauger = (*Store)(nil)
