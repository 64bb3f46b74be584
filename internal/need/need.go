// Package need finds the programs that tests want beside Go.
package need

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Program returns the path of the first of these programs that there is. Without any the test is skipped, or has
// failed where the environment has PERDURE_TEST_REQUIRE, as it has in the CI.
func Program(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, strings.Join(names, " or "))
	return ""
}

// Missing skips a test for want of something, or fails it where PERDURE_TEST_REQUIRE is set.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("PERDURE_TEST_REQUIRE") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("SKIPPED: %s is missing", what)
}
