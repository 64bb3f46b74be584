package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/examples/funcs"
)

func TestADigestGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	s := serving(t)
	const files = 15
	for i := range files {
		text := fmt.Sprintf("The file with the number %d has just one sentence.", i)
		if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprintf("%02d.txt", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	input := fmt.Sprintf(`{"paths":[%q],"delay_ms":100}`, s.dir)
	waited := s.begin("", "start", "digest", "--id", "d", "--input", input, "--wait")
	eventually(t, "three files are read", func() bool {
		r := s.do("get", "d", "--json")
		return r.code == 0 && strings.Count(r.out, `"file:`) >= 3
	})
	s.kill()
	s.start()
	r := waited()
	if r.code != 0 {
		t.Fatalf("got exit code %d: %s", r.code, r.err)
	}
	out := decode[funcs.DigestOutput](t, r.out)
	if out.Skipped < 3 || out.Read+out.Skipped != files || len(out.Files) != files {
		t.Errorf("got %d read, %d skipped, of %d files, want at least 3 skipped of %d", out.Read, out.Skipped, len(out.Files), files)
	}
	if want := []perdure.EntryMode{perdure.Fresh, perdure.Recovered}; !reflect.DeepEqual(out.Entries, want) {
		t.Errorf("got entries %v, want %v", out.Entries, want)
	}
}

func TestCountdownsSurviveTheirCrashes(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.supervise()
	for _, c := range []struct{ id, input, want string }{
		{"crash", `{"steps":10,"delay_ms":10,"crash_at":4}`, `{"steps":10,"entries":["fresh","recovered"],"attempts":[1,1]}`},
		{"fail", `{"steps":10,"delay_ms":10,"fail_at":[3]}`, `{"steps":10,"entries":["fresh"],"attempts":[1,2]}`},
		{"both", `{"steps":10,"delay_ms":10,"fail_at":[3],"crash_at":4}`, `{"steps":10,"entries":["fresh","recovered"],"attempts":[1,2,2]}`},
	} {
		out := s.must("start", "countdown", "--id", c.id, "--input", c.input, "--wait")
		if got, want := decode[any](t, out), decode[any](t, c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", c.id, got, want)
		}
	}
}

func TestAPoisonTaskIsParkedAndOthersGoOn(t *testing.T) {
	t.Parallel()
	s := serving(t, "--max-recoveries", "3")
	s.supervise()
	other := s.begin("", "start", "countdown", "--id", "other", "--input", `{"steps":20,"delay_ms":50}`, "--wait")
	s.must("start", "countdown", "--id", "poison", "--input", `{"steps":5,"crash_at":2,"crash_always":true}`)
	r := s.do("wait", "poison")
	if r.code != 1 || !strings.Contains(r.err, "task poison is parked: ") {
		t.Errorf("wait: got exit code %d, %q, want it parked", r.code, r.err)
	}
	if r := other(); r.code != 0 {
		t.Errorf("the other countdown: got exit code %d, %s", r.code, r.err)
	}
	if got := s.task("poison").Turn.Recoveries; got != 4 {
		t.Errorf("got parked after %d recoveries, want 4: one more than the limit", got)
	}
	if r := s.do("doctor"); !strings.Contains(r.out, "1 parked") {
		t.Errorf("doctor: got\n%s%swant that a task is parked", r.out, r.err)
	}
	if out := s.must("resume", "poison"); out != "poison pending\n" && out != "poison in_progress\n" {
		t.Errorf("resume: got %q, want it pending", out)
	}
	eventually(t, "it is terminated, between the crashes of its server", func() bool {
		r := s.do("terminate", "poison", "--reason", "enough")
		return r.code == 0 && r.out == "poison terminated\n" || strings.Contains(r.err, "is terminated") // the answer was lost
	})
	s.must("rm", "poison", "never-there")
	s.do("get", "poison").wants(t, 3, "poison")
}

func TestSIGTERMGivesABusyTaskToTheNextServer(t *testing.T) {
	t.Parallel()
	s := serving(t)
	s.must("start", "countdown", "--id", "c", "--input", `{"steps":120,"delay_ms":50}`)
	eventually(t, "it counts", func() bool { return strings.Contains(s.must("get", "c", "--json"), `"step": 2`) })
	waited := s.begin("", "wait", "c")
	if code := s.stop(); code != 0 {
		t.Errorf("got exit code %d after SIGTERM, want 0\n%s", code, s.current().stderr)
	}
	info := s.task("c", "--db", s.db)
	if info.Status != perdure.InProgress || info.Lease != nil {
		t.Errorf("got status %s, lease %+v, want it in progress and held by nobody", info.Status, info.Lease)
	}
	s.start()
	r := waited()
	if r.code != 0 {
		t.Fatalf("the wait across the restart: got exit code %d, %s", r.code, r.err)
	}
	out := decode[funcs.CountdownOutput](t, r.out)
	want := funcs.CountdownOutput{Steps: 120, Entries: []perdure.EntryMode{perdure.Fresh, perdure.Recovered}, Attempts: []int{1, 1}}
	if !reflect.DeepEqual(out, want) {
		t.Errorf("got %+v, want %+v", out, want)
	}
	if got := s.task("c").Turn; got.Recoveries != 0 || got.Attempt != 1 {
		t.Errorf("got recoveries %d, attempt %d, want 0 and 1: a shutdown does not count", got.Recoveries, got.Attempt)
	}
}

func TestADecisionOutlastsARestart(t *testing.T) {
	t.Parallel()
	s := serving(t)
	out := s.must("start", "approval", "--id", "order", "--input", `{"request":"buy a boat"}`, "--wait")
	if !strings.Contains(out, "awaiting approval") {
		t.Errorf("got %q, want the state", out)
	}
	if info := s.task("order"); info.Status != perdure.Suspended || info.Reason != "awaiting approval" || info.Title != "buy a boat" {
		t.Errorf("got %+v, want it suspended with its reason", info)
	}
	s.kill()
	s.start()
	out = s.must("steer", "order", "--input", `{"approved":true,"by":"Ada"}`, "--wait")
	want := map[string]any{"approved": true, "by": "Ada", "request": "buy a boat"}
	if got := decode[map[string]any](t, out); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	turns := decode[[]perdure.TurnInfo](t, s.must("turns", "order", "--json"))
	if len(turns) != 2 || turns[1].Entry != perdure.Resumed || turns[0].Status != perdure.Suspended {
		t.Errorf("got turns %+v, want a suspended and a resumed one", turns)
	}
	if got := decode[map[string]any](t, s.must("wait", "order", "--turn", "1")); got["state"] != "awaiting approval" {
		t.Errorf("got %v for the first turn, want its own output", got)
	}
}
