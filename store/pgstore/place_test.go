package pgstore

import "testing"

// place returns the next place of a transaction.
func place(t *testing.T, tx *tx, above int64) int64 {
	t.Helper()
	at, err := tx.NextPlace(above)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestPlacesOnlyGrow(t *testing.T) {
	s := guarded(t)
	begin := func() *tx {
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Release)
		tx := s.newTx(t.Context(), conn.Conn(), direct)
		if _, err := tx.begin(nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { rollback(conn.Conn()) })
		return tx
	}
	first, second := begin(), begin()
	last := int64(0)
	for range 2*placesAtOnce + 10 { // more than are taken at once
		at := place(t, first, 0)
		if at <= last {
			t.Fatalf("place %d after %d", at, last)
		}
		last = at
	}
	other := place(t, second, 0)
	if other <= last {
		t.Errorf("place %d in a transaction that began to take them later, after %d", other, last)
	}
	if at := place(t, second, 1_000_000); at <= 1_000_000 {
		t.Errorf("place %d, want one above a million", at)
	}
	if at := place(t, second, 5); at <= 1_000_001 {
		t.Errorf("place %d, want one above those before", at)
	}
	if at := place(t, begin(), 0); at <= 1_000_002 {
		t.Errorf("place %d in a later transaction, want one above those before", at)
	}
}
