package sqlitestore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// statements are all constant statements that read or write rows, by the names of their constants.
func statements() map[string]string {
	return map[string]string{
		"sqlDropEvents": sqlDropEvents, "sqlDropTurns": sqlDropTurns, "sqlDropMetadata": sqlDropMetadata,
		"sqlTheirEvents": sqlTheirEvents, "sqlTheirTurns": sqlTheirTurns, "sqlTheirMetadata": sqlTheirMetadata,
		"sqlTrimmed": sqlTrimmed, "sqlAbandon": sqlAbandon, "sqlAbandoned": sqlAbandoned,
		"sqlForgetAbandoned": sqlForgetAbandoned, "sqlAppendEvents": sqlAppendEvents, "sqlEvents": sqlEvents,
		"sqlTurnEvents": sqlTurnEvents, "sqlRewinds": sqlRewinds, "sqlEmittedBefore": sqlEmittedBefore,
		"sqlSettingsByID": sqlSettingsByID, "sqlSettingsFind": sqlSettingsFind, "sqlSettingsAdd": sqlSettingsAdd,
		"sqlSourceByID": sqlSourceByID, "sqlSourceFind": sqlSourceFind, "sqlSourceAdd": sqlSourceAdd,
		"sqlNextPlace": sqlNextPlace, "sqlDueNow": sqlDueNow, "sqlDueByTime": sqlDueByTime, "sqlNextDue": sqlNextDue,
		"sqlLeasedTo": sqlLeasedTo, "sqlLeasedBy": sqlLeasedBy, "sqlExpired": sqlExpired, "sqlEnding": sqlEnding,
		"sqlTrimmable": sqlTrimmable, "sqlNextFunc": sqlNextFunc, "sqlWaiting": sqlWaiting, "sqlTurnRead": sqlTurnRead,
		"sqlTurnReadByInput": sqlTurnReadByInput, "sqlTurnsSizes": sqlTurnsSizes, "sqlTurns": sqlTurns,
		"sqlRequest": sqlRequest, "sqlRemember": sqlRemember, "sqlForget": sqlForget, "sqlTaskByID": sqlTaskByID,
		"sqlTask": sqlTask, "sqlInsertTask": sqlInsertTask, "sqlInsertTag": sqlInsertTag, "sqlUpdateTask": sqlUpdateTask,
		"sqlUpdateState": sqlUpdateState, "sqlTagsOf": sqlTagsOf, "sqlDeleteTags": sqlDeleteTags,
		"sqlDeleteTask": sqlDeleteTask, "sqlTurn": sqlTurn, "sqlTurnByInput": sqlTurnByInput, "sqlQueued": sqlQueued,
		"sqlLastEntered": sqlLastEntered, "sqlInsertTurn": sqlInsertTurn, "sqlEndTurn": sqlEndTurn,
		"sqlPruneTurns": sqlPruneTurns, "sqlMetadata": sqlMetadata, "sqlSetMetadata": sqlSetMetadata,
		"sqlUnsetMetadata": sqlUnsetMetadata, "sqlWorker": sqlWorker, "sqlLapsed": sqlLapsed, "sqlAlive": sqlAlive,
		"sqlServed": sqlServed, "sqlPutWorker": sqlPutWorker, "sqlDeleteWorker": sqlDeleteWorker,
		"sqlDeleteMail": sqlDeleteMail, "sqlAddMail": sqlAddMail, "sqlDropMail": sqlDropMail, "sqlMail": sqlMail,
		"sqlPublished": sqlPublished, "sqlPublish": sqlPublish, "sqlProbe": sqlProbe, "sqlReached": sqlReached,
	}
}

// small are tables of a few rows, which may be read whole; the first rows of a table in its own order; and rows that a
// subquery has chosen already.
func small(sql string) bool {
	return strings.Contains(sql, "FROM workers") || sql == sqlAbandoned || sql == sqlWaiting || sql == sqlReached
}

func (c *conn) plan(t *testing.T, sql string) string {
	t.Helper()
	var plan strings.Builder
	s := c.once("EXPLAIN QUERY PLAN " + sql)
	err := s.each(func() error {
		plan.WriteString(s.s.ColumnText(3) + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

func plans(t *testing.T) *conn {
	t.Helper()
	s := openTemp(t)
	c, err := s.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.pool.put(c) })
	return c
}

func TestEveryStatementUsesAnIndex(t *testing.T) {
	c := plans(t)
	for name, sql := range statements() {
		plan := c.plan(t, sql)
		if !small(sql) && (strings.Contains(plan, "SCAN") || strings.Contains(plan, "TEMP B-TREE")) {
			t.Errorf("%s:\n%s\nplan:\n%s", name, sql, plan)
		}
	}
}

func TestEveryListWalksAnIndexInOrder(t *testing.T) {
	c := plans(t)
	all := store.ListQuery{
		Funcs: []string{"f"}, Session: "s", Agent: "a", Tags: map[string]string{"k": "v"},
		Statuses: []store.Status{store.Pending, store.Failed}, Worker: "w",
	}
	for _, from := range []string{walkTag, walkWorker, walkSession, walkStatus, walkAgent, walkFunc, walkAll} {
		sql, _ := walk{from: from}.filter(all)
		if plan := c.plan(t, sql); strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN") && from != walkAll {
			t.Errorf("%s\nplan:\n%s", sql, plan)
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
	known := statements()
	for _, plain := range []string{"sqlBegin", "sqlBeginRead", "sqlCommit", "sqlRollback", "sqlVersion", "sqlLimit"} {
		known[plain] = ""
	}
	ast.Inspect(files["sqlitestore"], func(n ast.Node) bool {
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

// A start with its lease and an end are the most frequent operations: each statement more is felt.
func TestACycleRunsTheStatementsThatItNeeds(t *testing.T) {
	s := &worked{T: t, Store: openTemp(t)}
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	s.register("w")
	cycle := func(id string) {
		e := s.start(id, store.Settings{Keep: time.Hour})
		s.settle(&store.SettleRequest{Lease: e.Lease, Kind: store.SettleEnd, Outcome: store.Completed, Then: store.Completed})
	}
	cycle("first")
	var before int
	onWriter(t, s.Store, func(c *conn) error {
		c.stmts, before = map[string]*stmt{}, c.rows
		return nil
	})
	cycle("second")
	want := []string{sqlBegin, sqlCommit, sqlTaskByID, sqlInsertTask, sqlInsertTag, sqlInsertTurn, sqlTask, sqlEndTurn, sqlUpdateTask, sqlReached}
	onWriter(t, s.Store, func(c *conn) error {
		got := slices.Sorted(maps.Keys(c.stmts))
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("the statements of a cycle are\n%s", strings.Join(got, "\n"))
		}
		if rows := c.rows - before; rows != 1+4 {
			t.Errorf("a cycle has read %d rows, want the task at its end, and how far the store has come", rows)
		}
		return nil
	})
}
