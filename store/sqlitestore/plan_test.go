package sqlitestore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strings"
	"testing"

	"github.com/perdure/perdure/store"
)

// statements are all constant statements that read or write rows, by the names of their constants.
func statements() map[string]string {
	return map[string]string{
		"sqlSettingsByID": sqlSettingsByID, "sqlSettingsFind": sqlSettingsFind, "sqlSettingsAdd": sqlSettingsAdd,
		"sqlSourceByID": sqlSourceByID, "sqlSourceFind": sqlSourceFind, "sqlSourceAdd": sqlSourceAdd,
		"sqlTaskByID": sqlTaskByID, "sqlTask": sqlTask, "sqlInsertTask": sqlInsertTask, "sqlInsertTag": sqlInsertTag,
		"sqlUpdateTask": sqlUpdateTask, "sqlUpdateState": sqlUpdateState, "sqlDeleteTags": sqlDeleteTags,
		"sqlDeleteTurns": sqlDeleteTurns, "sqlDeleteMetadata": sqlDeleteMetadata, "sqlDeleteEvents": sqlDeleteEvents,
		"sqlDeleteTask": sqlDeleteTask, "sqlLeasedTo": sqlLeasedTo, "sqlDue": sqlDue, "sqlNextDue": sqlNextDue,
		"sqlExpired": sqlExpired, "sqlOverdue": sqlOverdue, "sqlTurn": sqlTurn, "sqlTurnByInput": sqlTurnByInput,
		"sqlQueued": sqlQueued, "sqlLastEntered": sqlLastEntered, "sqlInsertTurn": sqlInsertTurn,
		"sqlEndTurn": sqlEndTurn, "sqlPruneTurns": sqlPruneTurns, "sqlMetadata": sqlMetadata,
		"sqlSetMetadata": sqlSetMetadata, "sqlDropMetadata": sqlDropMetadata, "sqlAppendEvents": sqlAppendEvents,
		"sqlEvents": sqlEvents, "sqlTurnEvents": sqlTurnEvents, "sqlRewinds": sqlRewinds,
		"sqlDropEvents": sqlDropEvents, "sqlEmittedBefore": sqlEmittedBefore, "sqlTrimmable": sqlTrimmable, "sqlWorker": sqlWorker, "sqlWorkers": sqlWorkers,
		"sqlPutWorker": sqlPutWorker, "sqlDeleteWorker": sqlDeleteWorker, "sqlDeleteMail": sqlDeleteMail,
		"sqlAddMail": sqlAddMail, "sqlDropMail": sqlDropMail, "sqlMail": sqlMail, "sqlPublished": sqlPublished,
		"sqlPublish": sqlPublish, "sqlTurnLight": sqlTurnLight, "sqlTurnByInputHeavy": sqlTurnByInputHeavy,
		"sqlTurns": sqlTurns, "sqlWaiting": sqlWaiting,
	}
}

// small are tables of a few rows, which may be read whole, and what a count reads whole by nature: the
// index of waiting tasks.
func small(sql string) bool { return strings.Contains(sql, "FROM workers") || sql == sqlWaiting }

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
	c, err := s.pool.take(t.Context())
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
