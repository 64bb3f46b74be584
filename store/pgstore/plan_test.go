package pgstore

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store"
)

// reads are all constant statements of reading transactions, by the names of their constants; writes those of writing ones.
func reads() map[string]string {
	return map[string]string{
		"sqlTaskByID": sqlTaskByID, "sqlTaskMeta": sqlTaskMeta, "sqlTaskTurn": sqlTaskTurn, "sqlTaskLast": sqlTaskLast,
		"sqlTaskInput": sqlTaskInput, "sqlTurns": sqlTurns, "sqlEvents": sqlEvents, "sqlTurnEvents": sqlTurnEvents,
		"sqlRewinds": sqlRewinds, "sqlWaiting": sqlWaiting, "sqlNumbers": sqlNumbers, "sqlWorkers": sqlWorkers, "sqlMail": sqlMail,
		"sqlSeenMail": sqlSeenMail, "sqlAnyDue": sqlAnyDue, "sqlAnyLapsed": sqlAnyLapsed,
	}
}

func writes() map[string]string {
	return map[string]string{
		"sqlInsertEvents": sqlInsertEvents, "sqlDropEvents": sqlDropEvents, "sqlEmittedBefore": sqlEmittedBefore,
		"sqlEntries": sqlEntries, "sqlMetadata": sqlMetadata, "sqlDropMetadata": sqlDropMetadata, "sqlSetMetadata": sqlSetMetadata,
		"sqlTasksByID": sqlTasksByID, "sqlTasksByKey": sqlTasksByKey, "sqlDeleteTags": sqlDeleteTags,
		"sqlDeleteTasks": sqlDeleteTasks, "sqlInsertTasks": sqlInsertTasks, "sqlUpdateTasks": sqlUpdateTasks,
		"sqlInsertTags": sqlInsertTags, "sqlLeasedTo": sqlLeasedTo, "sqlLeasedMore": sqlLeasedMore, "sqlLeasedBy": sqlLeasedBy,
		"sqlDue": sqlDue, "sqlDelayed": sqlDelayed, "sqlExpired": sqlExpired, "sqlEnding": sqlEnding,
		"sqlTrimmable": sqlTrimmable, "sqlNextDue": sqlNextDue, "sqlTurn": sqlTurn,
		"sqlKnownTurns": sqlKnownTurns, "sqlTurnByInput": sqlTurnByInput, "sqlOpenTurns": sqlOpenTurns,
		"sqlLastEntered": sqlLastEntered, "sqlPrunable": sqlPrunable, "sqlInsertTurns": sqlInsertTurns,
		"sqlEndTurns": sqlEndTurns, "sqlPruneTurns": sqlPruneTurns, "sqlExist": sqlExist, "sqlKeysExist": sqlKeysExist,
		"sqlKeepWorkers": sqlKeepWorkers, "sqlRenewWorkers": sqlRenewWorkers, "sqlLockWorkers": sqlLockWorkers,
		"sqlLapsedWorkers": sqlLapsedWorkers, "sqlPublished": sqlPublished, "sqlPutWorker": sqlPutWorker,
		"sqlLockMailboxes": sqlLockMailboxes, "sqlDeleteWorkers": sqlDeleteWorkers,
		"sqlDeleteMailboxes": sqlDeleteMailboxes, "sqlDeleteMail": sqlDeleteMail,
		"sqlInsertMail": sqlInsertMail, "sqlPublish": sqlPublish, "sqlServed": sqlServed,
		"sqlAbandon": sqlAbandon, "sqlAbandoned": sqlAbandoned, "sqlWeight": sqlWeight, "sqlForgetRemoved": sqlForgetRemoved,
		"sqlDropTurns": sqlDropTurns, "sqlDropValues": sqlDropValues, "sqlDropAllEvents": sqlDropAllEvents,
		"sqlDropAllTurns": sqlDropAllTurns, "sqlDropAllMetadata": sqlDropAllMetadata,
		"sqlRequests": sqlRequests, "sqlOutdate": sqlOutdate, "sqlRemember": sqlRemember, "sqlForget": sqlForget,
	}
}

// plain are statements that touch no table of rows.
var plain = []string{"sqlBegin", "sqlCommit", "sqlLimits", "sqlClock", "sqlBeginRead", "sqlReadSetup", "sqlVersions", "sqlVersion",
	"sqlNextIncarnation", "sqlKeepIncarnation", "sqlNextPlaces", "sqlRaisePlaces", "sqlSettings", "sqlNotify", "sqlAnnounce",
	"sqlNoSync", "sqlOwnLimit", "sqlSetLimit", "sqlPutLimit",
	"sqlClockPlain", "sqlWhichServer", "sqlWhichPlain", "sqlTimeline", "sqlNoteTimeline", "sqlSince", "sqlBarrier", "sqlBarrierPlain",
	"sqlSetIncarnations", "sqlSetPlaces", "sqlSetMail", "sqlReplication", "sqlTableLocked"}

// whole are statements that read a whole index or table by nature: the few workers, and the first tasks that are removed.
var whole = []string{sqlWorkers, sqlLapsedWorkers, sqlServed, sqlAbandoned, sqlAnyLapsed}

// node is a part of a plan, as EXPLAIN (FORMAT JSON) tells it.
type node struct {
	Kind  string `json:"Node Type"`
	Cond  string `json:"Index Cond"`
	Join  string `json:"Join Filter"`
	Rest  string `json:"Filter"`
	Rows  int    `json:"Plan Rows"`
	Table string `json:"Relation Name"`
	Index string `json:"Index Name"`
	Plans []node
}

// scans lists the parts that read a table without looking for something in an index, and joins of all with all.
func (n node) scans() (bad []string) {
	switch n.Kind {
	case "Seq Scan":
		bad = append(bad, "Seq Scan on "+n.Table)
	case "Index Scan", "Index Only Scan", "Bitmap Index Scan":
		if n.Cond == "" {
			bad = append(bad, n.Kind+" of all of "+n.Index)
		}
	}
	if n.Join != "" {
		bad = append(bad, "join of all by "+n.Join)
	}
	for _, below := range n.Plans {
		if n.Kind == "Limit" && n.Rows == 1 && below.Rest == "" { // the least: Postgres 17 and newer leave out that it is not null
			continue
		}
		bad = append(bad, below.scans()...)
	}
	return bad
}

func (n node) sorts() bool {
	return n.Kind == "Sort" || n.Kind == "Incremental Sort" || slices.ContainsFunc(n.Plans, node.sorts)
}

// planner is a transaction with the settings of the store's own.
type planner struct {
	t  *testing.T
	s  *Store
	tx pgx.Tx
	n  int
}

func newPlanner(t *testing.T, setup string, args ...any) *planner {
	t.Helper()
	url := pgtest.URL(t)
	s := openAt(t, url, Options{Schema: pgtest.Schema(t, url)})
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(t.Context()) })
	if _, err := tx.Exec(t.Context(), setup, args...); err != nil {
		t.Fatal(err)
	}
	return &planner{t: t, s: s, tx: tx}
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// plan returns the generic plan of a statement.
func (p *planner) plan(sql string) (node, string) {
	p.t.Helper()
	p.n++
	name, params := fmt.Sprint("p", p.n), 0
	for _, m := range placeholder.FindAllStringSubmatch(sql, -1) {
		i, _ := strconv.Atoi(m[1])
		params = max(params, i)
	}
	call := name
	if params > 0 {
		call += "(" + strings.TrimSuffix(strings.Repeat("NULL,", params), ",") + ")"
	}
	if _, err := p.tx.Exec(p.t.Context(), "PREPARE "+name+" AS "+p.s.sql(sql), pgx.QueryExecModeSimpleProtocol); err != nil {
		p.t.Fatalf("%v: %s", err, sql)
	}
	var text string
	err := p.tx.QueryRow(p.t.Context(), "EXPLAIN (FORMAT JSON) EXECUTE "+call, pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		p.t.Fatalf("%v: %s", err, sql)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		p.t.Fatal(err)
	}
	return plans[0].Plan, text
}

func TestEveryStatementUsesAnIndex(t *testing.T) {
	writing, reading := newPlanner(t, sqlLimits, "60s", lockLimit, false), newPlanner(t, sqlReadSetup, readLimit, readLimit)
	for p, statements := range map[*planner]map[string]string{writing: writes(), reading: reads()} {
		for name, sql := range statements {
			if plan, text := p.plan(sql); len(plan.scans()) > 0 && !slices.Contains(whole, sql) {
				t.Errorf("%s: %q\n%s\nplan:\n%s", name, plan.scans(), sql, text)
			}
		}
	}
}

func TestEveryListWalksAnIndexInOrder(t *testing.T) {
	p := newPlanner(t, sqlReadSetup, readLimit, readLimit)
	all := store.ListQuery{
		Funcs: []string{"f"}, Session: "s", Agent: "a", Tags: map[string]string{"k": "v"},
		Statuses: []store.Status{store.Pending, store.Failed}, Worker: "w", Limit: 10,
	}
	for _, from := range []string{walkTag, walkWorker, walkSession, walkStatus, walkAgent, walkFunc, walkAll} {
		sql, _ := walk{from: from}.statement(all, 0)
		if plan, text := p.plan(sql); plan.sorts() || len(plan.scans()) > 0 {
			t.Errorf("%s\nplan:\n%s", sql, text)
		}
	}
}

func TestStatementsAreAllListed(t *testing.T) {
	files, err := parser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool {
		return !strings.HasSuffix(f.Name(), "_test.go")
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := writes()
	maps.Copy(known, reads())
	for _, name := range plain {
		known[name] = ""
	}
	ast.Inspect(files["pgstore"], func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name := spec.Names[0].Name; strings.HasPrefix(name, "sql") {
			if _, ok := known[name]; !ok {
				t.Errorf("%s is not among the statements of this test", name)
			}
		}
		return true
	})
}
