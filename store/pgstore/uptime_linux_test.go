package pgstore

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/pgtest"
)

func TestUptimeIsTheMachines(t *testing.T) {
	s := &Store{}
	read := func() time.Duration {
		text, err := os.ReadFile("/proc/uptime")
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(seconds * float64(time.Second))
	}
	before, up, after := read(), s.Uptime(), read()
	const tick = 10 * time.Millisecond // of /proc/uptime
	if up < before || up > after+tick {
		t.Errorf("up for %v, want between %v and %v", up, before, after)
	}
}

func TestUptimeInVirtualTimeIsVirtual(t *testing.T) {
	c := &clock{}
	c.micros.Store(time.Now().UnixMicro())
	url := pgtest.URL(t)
	s := openAt(t, url, Options{Schema: pgtest.Schema(t, url), UnsafeClock: c.now})
	before := s.Uptime()
	c.advance(time.Hour)
	same(t, "time that has passed", s.Uptime()-before, time.Hour)
}
