package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure"
)

func TestBadInputsAreOneClearLine(t *testing.T) {
	t.Parallel()
	s := serving(t)
	big := filepath.Join(s.dir, "big.json")
	if err := os.WriteFile(big, []byte(`{"text":"`+strings.Repeat("x", 20<<20)+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args string
		code int
		want string
	}{
		"turn 0":             {`cancel nothing --turn 0`, 2, "numbers from 1"},
		"a negative turn":    {`wait nothing --turn -1`, 2, "numbers from 1"},
		"an empty --db":      {`ls --db=`, 2, "--db: it must not be empty"},
		"an empty input ID":  {`wait nothing --input-id=`, 2, "--input-id must not be empty"},
		"not JSON":           {`start digest --input {"paths"`, 2, "--input is not JSON: unexpected end"},
		"NaN":                {`start countdown --input {"steps":NaN}`, 2, "--input is not JSON: invalid character 'N'"},
		"two values":         {`start digest --input {}{}`, 2, "--input is not JSON"},
		"no file":            {`start digest --input @no.json`, 2, "no.json: no such file"},
		"a folder":           {`start digest --input @.`, 2, "is a directory"},
		"wrong type":         {`start countdown --input {"steps":"ten"}`, 2, `field "steps"`},
		"an array":           {`start countdown --input []`, 2, "JSON array"},
		"unknown field":      {`start countdown --input {"stepz":1}`, 2, `unknown field "stepz"`},
		"20 MB":              {`start digest --input @` + big, 2, "too large"},
		"unknown func":       {`start nope`, 3, "unknown func nope"},
		"odd func":           {`start no/pe`, 2, "no/pe"},
		"an ID with a dot":   {`start countdown --id .hidden --input {"steps":1}`, 2, "task_id"},
		"a long ID":          {`start countdown --input {"steps":1} --id ` + strings.Repeat("x", 300), 2, "task_id"},
		"a long title":       {`start countdown --input {"steps":1} --title ` + strings.Repeat("x", 300), 2, "title of 300 characters"},
		"a tag without =":    {`start countdown --tag kind`, 2, "--tag"},
		"a tag twice":        {`start countdown --tag kind=a --tag kind=b`, 2, "twice"},
		"a reserved tag":     {`start countdown --input {"steps":1} --tag perdure.x=1`, 2, "perdure."},
		"retry not JSON":     {`start countdown --retry 3`, 2, "--retry"},
		"retry with less":    {`start countdown --input {"steps":1} --retry {"attempts":-1}`, 2, "Attempts"},
		"if-exists":          {`start countdown --input {"steps":1} --if-exists maybe`, 2, "if_exists"},
		"deliver":            {`start countdown --input {"steps":1} --deliver later`, 2, "deliver"},
		"negative timeout":   {`start countdown --timeout -1s`, 2, "--timeout"},
		"timeout of no wait": {`start countdown --timeout 1s`, 2, "--wait"},
		"mistyped file":      {`start countdown --db typo.db`, 1, "no such file"},
		"no func":            {`start`, 2, "accepts 1 arg"},
		"get nothing":        {`get nope`, 3, "nope"},
		"get an odd ID":      {`get ../../etc`, 3, "etc"},
		"wait for nothing":   {`wait nope`, 3, "nope"},
		"steer nothing":      {`steer nope`, 3, "nope"},
		"cancel nothing":     {`cancel nope`, 3, "nope"},
		"terminate nothing":  {`terminate nope`, 3, "nope"},
		"resume nothing":     {`resume nope`, 3, "nope"},
		"turns of nothing":   {`turns nope`, 3, "nope"},
		"an unknown status":  {`ls --status running`, 2, "--status"},
		"a negative limit":   {`ls --limit -1`, 2, "--limit"},
		"an unknown command": {`lst`, 2, "unknown command"},
		"an unknown flag":    {`ls --colour`, 2, "unknown flag"},
		"url and db":         {`ls --url http://x --db y`, 2, "url"},
		"no URL":             {`ls --url nonsense`, 2, "--url nonsense"},
		"nobody there":       {`ls --url http://127.0.0.1:1`, 1, "no server answers at http://127.0.0.1:1"},
		"no such file":       {`ls --db none.db`, 1, "no such file"},
		"rm with a file":     {`rm x --db perdure.db`, 2, "needs the server"},
		"resume with a file": {`resume x --db perdure.db`, 2, "needs the server"},
	} {
		t.Run(name, func(t *testing.T) { s.do(strings.Fields(c.args)...).wants(t, c.code, c.want) })
	}
	s.do("start", "", "--input", `{}`).wants(t, 2, "func")
	s.do("start", "countdown", "--id", "", "--input", `{"steps":1}`).wants(t, 2, "--id: must not be empty")
	s.do("start", "countdown", "--id", "with space", "--input", `{"steps":1}`).wants(t, 2, "task_id")
	if out := s.must("ls", "--json"); out != "[]\n" {
		t.Errorf("got tasks %s, want none: nothing was accepted", out)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s := serving(t)
	const long = `{"steps":1000,"delay_ms":100}`
	s.must("start", "countdown", "--id", "c", "--input-id", "one", "--input", long)
	s.do("start", "countdown", "--id", "c", "--input", long).wants(t, 4, "c is in_progress")
	s.do("start", "approval", "--id", "c", "--input", `{"request":"x"}`).wants(t, 4, "countdown")
	s.do("start", "countdown", "--id", "c", "--input-id", "one", "--input", `{"steps":1}`).wants(t, 4, "different input")
	s.do("start", "countdown", "--id", "c", "--if-last", "zero", "--input", long).wants(t, 4, "precondition")
	s.do("resume", "c").wants(t, 4, "c is in_progress")
	if r := s.do("start", "countdown", "--id", "c", "--input-id", "one", "--input", long); r.code != 0 || r.out != "c\n" || !strings.Contains(r.err, "accepted before") {
		t.Errorf("the same input again: got %+v", r)
	}
	if r := s.do("start", "countdown", "--id", "c", "--if-exists", "attach", "--input", long); r.code != 0 || !strings.Contains(r.err, "attached to turn 1") {
		t.Errorf("attach: got %+v", r)
	}
	if out := s.must("cancel", "c", "--reason", "enough"); out != "c in_progress\n" && out != "c cancelled\n" {
		t.Errorf("cancel: got %q", out)
	}
	s.do("wait", "c").wants(t, 1, "task c, turn 1: cancelled: enough")
	if out := s.must("cancel", "c"); out != "c cancelled\n" {
		t.Errorf("cancel of what has ended: got %q", out)
	}
}

func TestStartPrintsTheTaskAndWaitTheOutput(t *testing.T) {
	t.Parallel()
	s := serving(t)
	id := strings.TrimSpace(s.must("start", "countdown", "--input", `{"steps":2}`, "--title", "two", "--tag", "kind=test", "--session", "s1"))
	if out := s.must("wait", id); !strings.Contains(out, `"steps": 2`) {
		t.Errorf("wait: got %q", out)
	}
	if r := s.feed(`{"failures":1}`, "start", "retry", "--input", "-", "--wait", "--retry", `{"attempts":2,"initial":"1ms"}`); r.code != 0 || !strings.Contains(r.out, `"attempts": 2`) {
		t.Errorf("retry: got %+v", r)
	}
	accepted := decode[perdure.Accepted](t, s.must("start", "retry", "--input", `{"failures":9}`, "--json", "--id", "flaky"))
	if accepted.TaskID != "flaky" || accepted.Turn != 1 || !accepted.Created {
		t.Errorf("start --json: got %+v", accepted)
	}
	s.do("wait", "flaky").wants(t, 1, "task flaky, turn 1: failed after 5 attempts: call 5: connection reset by peer")
	s.do("wait", id, "--turn", "7").wants(t, 3, id)
	s.must("start", "countdown", "--id", "slow", "--input", `{"steps":1000,"delay_ms":100}`)
	s.do("wait", "slow", "--timeout", "50ms").wants(t, 1, "has not ended within 50ms")
}

func TestListsAreTablesAndJSON(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.must("start", "provenance", "--id", "p1", "--wait", "--tag", "tier=gold")
	s.must("start", "provenance", "--id", "p2", "--wait", "--title", "odd\x1b[31m title")
	s.must("start", "approval", "--id", "a1", "--input", `{"request":"x"}`, "--wait")
	out := s.must("ls")
	if lines := strings.Split(out, "\n"); !strings.HasPrefix(lines[0], "ID  FUNC ") || !strings.HasPrefix(lines[1], "a1  approval") {
		t.Errorf("ls: got\n%s", out)
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("ls: got escape sequences in %q", out)
	}
	for flags, want := range map[string]string{
		"--func provenance": "p2 p1", "--status suspended": "a1", "--tag tier=gold": "p1", "--limit 2": "a1 p2", "--func nope": "",
		"--status completed,suspended --limit 0": "a1 p2 p1",
	} {
		var ids []string
		for _, info := range decode[[]perdure.Info](t, s.must(append([]string{"ls", "--json"}, strings.Fields(flags)...)...)) {
			ids = append(ids, info.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("ls %s: got %q, want %q", flags, got, want)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"get p1", "tier=gold"}, {"get p2", "odd\\u001b[31m title"}, {"turns a1", "awaiting approval"}, {"workers", "countdown"},
		{"funcs", "digest"}, {"funcs --json", `"func": "digest"`}, {"workers --json", `"self": true`}, {"doctor", "takes work"},
		{"version", "perdure "}, {"completion bash", "complete"}, {"help start", "--if-exists"},
		{"workers --db " + s.db, "countdown"}, {"funcs --db " + s.db, "digest"}, {"ls --db " + s.db, "p1"}, {"turns p1 --db " + s.db, "completed"},
	} {
		if out := s.must(strings.Fields(c.args)...); !strings.Contains(out, c.want) {
			t.Errorf("%s: got\n%swant %q in it", c.args, out, c.want)
		}
	}
}

func TestEveryCommandHasExamplesInItsHelp(t *testing.T) {
	a := newApp(strings.NewReader(""), os.Stdout, os.Stderr, nil)
	for _, c := range a.rootCommand().Commands() {
		if c.Runnable() && !c.Hidden && c.Name() != "help" && c.Name() != "completion" && (c.Example == "" || c.Long == "" || c.Short == "") {
			t.Errorf("%s: it has no example, or no text", c.Name())
		}
	}
}

func TestAClosedPipeIsQuiet(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.must("start", "provenance", "--wait")
	c := s.command(t.Context(), "ls")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	var stderr bytes.Buffer
	c.Stdout, c.Stderr = w, &stderr
	c.Run()
	w.Close()
	if stderr.Len() > 0 {
		t.Errorf("got %q on stderr, want nothing", &stderr)
	}
}

func TestAFileIsWorkedOnBesideItsServer(t *testing.T) {
	t.Parallel()
	s := serving(t)
	out := s.must("start", "countdown", "--db", s.db, "--id", "direct", "--input", `{"steps":3}`, "--wait")
	if !strings.Contains(out, `"steps": 3`) {
		t.Errorf("start --db --wait: got %q", out)
	}
	s.must("start", "countdown", "--db", s.db, "--id", "long", "--input", `{"steps":1000,"delay_ms":100}`)
	eventually(t, "the server has taken it up", func() bool { return s.task("long").Lease != nil })
	s.must("cancel", "long", "--db", s.db, "--reason", "from beside")
	s.do("wait", "long").wants(t, 1, "cancelled: from beside")
	s.must("start", "approval", "--db", s.db, "--id", "order", "--input", `{"request":"x"}`, "--wait")
	s.must("steer", "order", "--db", s.db, "--input", `{"approved":false}`, "--wait")
	s.stop()
	s.must("start", "countdown", "--db", s.db, "--id", "later", "--input", `{"steps":2}`)
	s.must("start", "countdown", "--db", s.db, "--id", "never", "--input", `{"steps":2}`)
	if out := s.must("terminate", "never", "--db", s.db); out != "never terminated\n" {
		t.Errorf("terminate --db: got %q", out)
	}
	if info := s.task("later", "--db", s.db); info.Status != perdure.Pending {
		t.Errorf("got %s without a server, want pending", info.Status)
	}
	s.start()
	s.must("wait", "later")
	s.do("start", "nope", "--db", s.db).wants(t, 3, "unknown func nope")
}

func TestDoctorSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.must("doctor")
	if out := s.must("doctor", "--db", s.db); !strings.Contains(out, "no damage found") || !strings.Contains(out, "what was acknowledged is kept") {
		t.Errorf("got\n%s", out)
	}
	s.stop()
	if r := s.do("doctor"); r.code != 1 || !strings.Contains(r.out, "no server answers at "+s.url) {
		t.Errorf("without a server: got %+v", r)
	}
	if out := s.must("doctor", "--db", s.db); !strings.Contains(out, "none is alive") {
		t.Errorf("without a server: got\n%s", out)
	}
	text := filepath.Join(s.dir, "text.db")
	if err := os.WriteFile(text, []byte("this is no database, and it is long enough to be looked at"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := s.do("doctor", "--db", text); r.code != 1 || !strings.Contains(r.out, "not a SQLite database") {
		t.Errorf("on a text file: got %+v", r)
	}
}

// TestServeLogsJSON reads the log of a server that was stopped.
func TestServeLogsJSON(t *testing.T) {
	t.Parallel()
	s := serving(t, "--log-format", "json")
	if code := s.stop(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	lines := bufio.NewScanner(s.current().stderr)
	n := 0
	for ; lines.Scan(); n++ {
		if !json.Valid(lines.Bytes()) {
			t.Errorf("got %q in the log, want JSON", lines.Text())
		}
	}
	if n == 0 {
		t.Error("got no log, want at least that it drains")
	}
}
