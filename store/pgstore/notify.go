package pgstore

import "github.com/perdure/perdure/store"

// news is what a transaction has changed that others may be waiting for.
type news struct {
	due     bool
	workers map[string]bool
	tasks   map[int64]bool
}

func (n *news) changed(t *store.Task) {}
func (n *news) mail(worker string)    {}

type notifier struct{}

func newNotifier(s *Store) *notifier { return &notifier{} }
func (n *notifier) add(*news)        {}
func (n *notifier) close()           {}
