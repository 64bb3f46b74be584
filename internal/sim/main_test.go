package sim

import (
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
