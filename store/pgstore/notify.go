package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/store"
)

// Times of the notifier.
const (
	notifyEvery = 10 * time.Millisecond // what is written meanwhile is told together
	notifyRetry = time.Second
	pingEvery   = 5 * time.Second
	heardWithin = 2 * time.Second // a ping that takes longer is lost
)

// maxPayload is how long a payload may be; Postgres takes less than 8000 bytes.
const maxPayload = 7900

// notifier tells other processes what has been written here, with NOTIFY after the commit, and hears what they tell.
// The channel has the schema's name.
type notifier struct {
	s      *Store
	id     string // of this Store value, in what it tells
	wake   chan struct{}
	closed context.Context
	close  context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	pending   news
	listeners map[*func(store.Hint)]bool
}

// news is what has been written that others may be waiting for.
type news struct {
	all     bool
	due     bool
	workers map[string]bool
	tasks   map[int64]bool
}

// changed notes that a task has been written.
func (n *news) changed(t *store.Task) {
	if n.tasks == nil {
		n.tasks = map[int64]bool{}
	}
	n.tasks[t.Incarnation] = true
	n.due = n.due || t.Due
}

// mail notes that a worker has mail.
func (n *news) mail(worker string) {
	if n.workers == nil {
		n.workers = map[string]bool{}
	}
	n.workers[worker] = true
}

func (n *news) add(more *news) {
	n.all, n.due = n.all || more.all, n.due || more.due
	if n.tasks == nil {
		n.tasks = map[int64]bool{}
	}
	maps.Copy(n.tasks, more.tasks)
	for worker := range more.workers {
		n.mail(worker)
	}
}

func (n *news) none() bool { return !n.all && !n.due && len(n.workers) == 0 && len(n.tasks) == 0 }

func (n *news) hint() store.Hint {
	return store.Hint{
		All: n.all, Due: n.due, Mail: slices.Sorted(maps.Keys(n.workers)), Tasks: slices.Sorted(maps.Keys(n.tasks)),
	}
}

// message is the payload of a notification, in JSON. What a program does not know in it, it leaves alone.
type message struct {
	From  string   `json:"from"`
	Ping  string   `json:"ping,omitempty"`
	All   bool     `json:"all,omitempty"`
	Due   bool     `json:"due,omitempty"`
	Mail  []string `json:"mail,omitempty"`
	Tasks []int64  `json:"tasks,omitempty"`
}

func newNotifier(s *Store) *notifier {
	n := &notifier{s: s, id: uuid.NewString(), wake: make(chan struct{}, 1), listeners: map[*func(store.Hint)]bool{}}
	n.closed, n.close = context.WithCancel(context.Background())
	n.wg.Go(n.loop)
	return n
}

// stop tells what is left, and ends the notifier.
func (n *notifier) stop() {
	n.close()
	n.wg.Wait()
}

// add queues what a transaction that is committed has changed.
func (n *notifier) add(more *news) {
	if n.s.opts.PollOnly || more.none() {
		return
	}
	n.mu.Lock()
	n.pending.add(more)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notifier) collect() news {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.pending
	n.pending = news{}
	return taken
}

// loop is the goroutine that tells.
func (n *notifier) loop() {
	for open := true; open; {
		select {
		case <-n.wake:
		case <-n.closed.Done():
			open = false
		}
		told := n.collect()
		if told.none() {
			continue
		}
		n.tellHere(told.hint())
		wait := notifyEvery
		if n.tell(told.hint()) != nil {
			wait = notifyRetry
			n.add(&news{all: true}) // what is lost is told as anything
		}
		select {
		case <-time.After(wait):
		case <-n.closed.Done():
		}
	}
}

// tell notifies other processes.
func (n *notifier) tell(h store.Hint) error {
	m := message{From: n.id, All: h.All, Due: h.Due, Mail: h.Mail, Tasks: h.Tasks}
	payload, err := json.Marshal(m)
	if err == nil && len(payload) > maxPayload {
		payload, err = json.Marshal(message{From: n.id, All: true})
	}
	if err != nil {
		return err
	}
	return n.notify(context.Background(), payload)
}

// sqlNotify sends one payload. Its commit need not wait for the disk: there is nothing on it.
const sqlNotify = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`

func (n *notifier) notify(ctx context.Context, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, heardWithin)
	defer cancel()
	_, err := n.s.pool.Exec(ctx, sqlNotify, n.s.texts.schema, string(payload))
	return err
}

// tellHere tells other listeners of this Store value.
func (n *notifier) tellHere(h store.Hint) {
	n.mu.Lock()
	var listeners []*func(store.Hint)
	if len(n.listeners) > 1 {
		listeners = slices.Collect(maps.Keys(n.listeners))
	}
	n.mu.Unlock()
	for _, hint := range listeners {
		(*hint)(h)
	}
}

// Reasons why no notifications come.
var (
	errPooled = errors.New("the connection goes through a pooler: notifications would be lost")
	errSilent = errors.New("notifications do not arrive")
)

// Listen implements store.Notifier, on a connection of its own. Pings that it sends to itself, the way others send,
// find out whether notifications arrive; behind most poolers they do not.
func (s *Store) Listen(ctx context.Context, hint func(store.Hint)) error {
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.news.closed, cancel)()
	var err error
	if s.opts.PollOnly {
		<-listening.Done()
	} else {
		err = s.news.listen(listening, hint)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.news.closed.Err() != nil:
		return store.ErrClosed
	}
	return s.explain(fmt.Errorf("listen: %w", err))
}

func (n *notifier) listen(ctx context.Context, hint func(store.Hint)) error {
	conn, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{n.s.texts.schema}.Sanitize()); err != nil {
		return err
	}
	defer n.leave(&hint)
	for {
		if err := n.ping(ctx, conn, &hint); err != nil {
			return err
		}
	}
}

// connect returns a connection that is not the pool's any more, or one to Options.ListenURL.
func (n *notifier) connect(ctx context.Context) (*pgx.Conn, error) {
	if n.s.opts.ListenURL != "" {
		return pgx.Connect(ctx, n.s.opts.ListenURL)
	}
	pooled, err := n.s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack()
	var pid uint32
	if err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err == nil && pid != conn.PgConn().PID() {
		err = errPooled // LISTEN would stay behind on a connection of others
	}
	if err != nil {
		hangUp(conn)
		return nil, err
	}
	return conn, nil
}

func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackWithin)
	defer cancel()
	conn.Close(ctx)
}

// ping sends a ping and passes on what comes until the next one is due.
func (n *notifier) ping(ctx context.Context, conn *pgx.Conn, hint *func(store.Hint)) error {
	token := uuid.NewString()
	payload, err := json.Marshal(message{From: n.id, Ping: token})
	if err != nil {
		return err
	}
	if err := n.notify(ctx, payload); err != nil {
		return err
	}
	sent, heard := time.Now(), false
	for limit := sent.Add(heardWithin); ; {
		note, err := wait(ctx, conn, limit)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && heard:
			return nil
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return errSilent
		case err != nil:
			return err
		}
		if n.hear(note.Payload, hint) == token {
			heard, limit = true, sent.Add(pingEvery)
			n.join(hint)
		}
	}
}

func wait(ctx context.Context, conn *pgx.Conn, until time.Time) (*pgconn.Notification, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return conn.WaitForNotification(ctx)
}

// hear passes on what others tell, and returns the token of a ping of this Store value.
func (n *notifier) hear(payload string, hint *func(store.Hint)) (ping string) {
	var m message
	if json.Unmarshal([]byte(payload), &m) != nil {
		return "" // somebody else uses the channel
	}
	if m.From == n.id {
		return m.Ping
	}
	if m.Ping == "" {
		(*hint)(store.Hint{All: m.All, Due: m.Due, Mail: m.Mail, Tasks: m.Tasks})
	}
	return ""
}

// join lets a listener, once, know that it hears.
func (n *notifier) join(hint *func(store.Hint)) {
	n.mu.Lock()
	joined := n.listeners[hint]
	n.listeners[hint] = true
	n.mu.Unlock()
	if !joined {
		(*hint)(store.Hint{All: true})
	}
}

func (n *notifier) leave(hint *func(store.Hint)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, hint)
}
