//go:build !linux

package sqlitestore

// anchor is nothing where there are no locks of open file descriptions, or where the engine's lock would meet SQLite's.
type anchor struct{}

func takeAnchor(*names) (*anchor, error) { return nil, nil }

func (a *anchor) lock() (unlock func(), err error) { return func() {}, nil }

func (a *anchor) leave() error { return nil }

func (a *anchor) close() error { return nil }

// harm is what has been done to a file; suffix is that of its name.
type harm struct{ suffix, what string }

// intact finds all well.
func (a *anchor) intact(_, _ stat) (*harm, error) { return nil, nil }
