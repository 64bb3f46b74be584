package pgstore

import "github.com/jackc/pgx/v5"

// Places in the line come from a sequence. A transaction takes as many at once as the sequence leaves between two of its
// numbers: with what it reads first if tasks are likely to begin to wait, else when one does.
const (
	placesAtOnce   = 1024 // the INCREMENT of the sequence
	sqlNextPlaces  = `SELECT nextval('perdure.places')`
	sqlRaisePlaces = `SELECT setval('perdure.places', $1) FROM perdure.places WHERE last_value < $1`
)

// places are those from next on that a transaction has taken and not given yet.
type places struct {
	next int64
	left int
}

// queuePlaces takes places, unless there are some.
func (t *tx) queuePlaces(b *pgx.Batch) {
	if t.places.left == 0 {
		b.Queue(t.s.sql(sqlNextPlaces)).QueryRow(t.scanPlaces)
	}
}

func (t *tx) scanPlaces(row pgx.Row) error {
	t.places.left = placesAtOnce
	return row.Scan(&t.places.next)
}

// NextPlace implements rules.Rows. Of two transactions at the same time neither is first.
func (t *tx) NextPlace(above int64) (int64, error) {
	b := &pgx.Batch{}
	if above > 0 && (t.places.left == 0 || t.places.next <= above) {
		t.places.left = 0
		b.Queue(t.s.sql(sqlRaisePlaces), above)
	}
	t.queuePlaces(b)
	if b.Len() > 0 {
		if err := t.send(b); err != nil {
			return 0, err
		}
	}
	place := t.places.next
	t.places.next++
	t.places.left--
	return place, nil
}
