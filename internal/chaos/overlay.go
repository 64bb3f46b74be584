package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ClockEnv is the environment variable that says by how many seconds the clock of a worker is off.
const ClockEnv = "CHAOS_CLOCK_OFFSET"

// offset is added to the wall clock, not to the monotonic one, as it is when somebody sets the clock of a machine.
const offset = `
var clockOffset = func() (n int64) {
	text, _ := syscall.Getenv("` + ClockEnv + `")
	negative := len(text) > 0 && text[0] == '-'
	for _, c := range []byte(text) {
		if '0' <= c && c <= '9' {
			n = 10*n + int64(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}()
`

// nowBegins is how Now of package time begins.
const nowBegins = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

// BuildWorker builds the worker program into a folder, with a package time whose clock can be set wrong.
func BuildWorker(dir string) (path string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(source), nowBegins)
	if !found {
		return "", fmt.Errorf("%s: Now does not read the clock as it did when this was written", original)
	}
	wrong := strings.Replace(before, "import (\n", "import (\n\t\"syscall\"\n", 1) + nowBegins + "\tsec += clockOffset\n" + after + offset
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	for path, content := range map[string]string{changed: wrong, overlay: string(text)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	path = filepath.Join(dir, "worker")
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", path, "github.com/perdure/perdure/internal/chaos/worker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the worker: %w\n%s", err, out)
	}
	return path, nil
}
