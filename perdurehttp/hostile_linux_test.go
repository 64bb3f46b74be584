package perdurehttp

import (
	"testing"

	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/store/pgstore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestHostileRequestsOnPostgres(t *testing.T) {
	url := pgtest.URL(t)
	st, err := pgstore.Open(t.Context(), url, &pgstore.Options{Schema: pgtest.Schema(t, url)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	besiege(t, st)
}
