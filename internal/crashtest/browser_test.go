//go:build unix

package crashtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/perdure/perdure"
	"github.com/perdure/perdure/internal/need"
)

// pageRead is what reader.html has read so far.
type pageRead struct {
	Opened   int     `json:"opened"` // connections
	Closed   bool    `json:"closed"` // for good
	Numbers  []int64 `json:"numbers"`
	Rewinds  int     `json:"rewinds"`
	Standing []struct {
		Data json.RawMessage `json:"data"`
	} `json:"standing"`
	End string `json:"end"`
}

// open opens a page until the test ends.
func open(t *testing.T, command, page string) {
	t.Helper()
	cmd := exec.Command(command, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+t.TempDir(), page)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // its children go with it
		cmd.Wait()
	})
}

// reports is a server that gets what a page has read.
func reports(t *testing.T) (address string, read <-chan pageRead) {
	c := make(chan pageRead, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var p pageRead
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			t.Errorf("report of the page: %v", err)
			return
		}
		c <- p
	}))
	t.Cleanup(server.Close)
	return server.URL, c
}

func TestABrowserRejoinsOverKilledServers(t *testing.T) {
	command := need.Program(t, "chromium", "chromium-browser", "google-chrome")
	address, read := reports(t)
	p := newPlace(t)
	p.start("")
	const steps, kills = 400, 2
	if _, err := work.Start(t.Context(), p.client, Work{Steps: steps, PauseMS: 50, Every: 50}, &perdure.StartOptions{TaskID: "a"}); err != nil {
		t.Fatal(err)
	}
	open(t, command, "http://"+p.listen+"/reader?"+url.Values{"task": {"a"}, "report": {address}}.Encode())
	var last pageRead
	killed := 0
	late := time.After(2 * time.Minute)
	for !last.Closed {
		select {
		case last = <-read:
		case <-late:
			t.Fatalf("after two minutes the page has read %d events over %d connections", len(last.Numbers), last.Opened)
		}
		if killed < kills && len(last.Standing) >= 30*(killed+1) && last.Opened == killed+1 {
			p.kill()
			p.start("")
			killed++
		}
	}
	if last.End != "completed" || last.Opened != kills+1 || last.Rewinds < 1 || last.Rewinds > kills {
		t.Errorf("got end %q, %d connections, %d rewinds; want completed, %d, 1 to %d", last.End, last.Opened, last.Rewinds, kills+1, kills)
	}
	for i, n := range last.Numbers {
		if n != int64(i+1) {
			t.Fatalf("E3: the page got numbers %v", last.Numbers)
		}
	}
	for i, e := range last.Standing {
		if string(e.Data) != fmt.Sprint(i+1) {
			t.Fatalf("E2: event %d that stands is %s", i+1, e.Data)
		}
	}
	if len(last.Standing) != steps {
		t.Errorf("E2: %d events stand, want %d", len(last.Standing), steps)
	}
	t.Logf("proof: a browser's EventSource over %d kills of its server: %d events, each once, in order; it stays away after the end", killed, len(last.Numbers))
}
