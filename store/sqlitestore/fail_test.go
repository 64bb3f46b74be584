package sqlitestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/store"
)

// pages sets how many pages the file may have: a small number stands for a full disk.
func pages(t *testing.T, s *Store, limit int64) {
	t.Helper()
	err := s.writer.do(&op{ctx: t.Context(), plain: true, run: func(c *conn, _ time.Time) error {
		return c.run(fmt.Sprintf("PRAGMA max_page_count = %d", limit))
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func big(id string) *store.OfferRequest {
	req := offerReq(id)
	req.Input = make([]byte, 1<<20)
	return req
}

func TestFullDiskFailsOnlyWhatDoesNotFit(t *testing.T) {
	s := openTemp(t)
	mustOffer(t, s, "before")
	pages(t, s, 100)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := s.Offer(t.Context(), big(fmt.Sprint("big", i))); err == nil || store.Definite(err) {
				t.Errorf("big offer: got error %v, want one that is not definite", err)
			}
		})
		all.Go(func() {
			if _, err := s.Offer(t.Context(), offerReq(fmt.Sprint("small", i))); err != nil {
				t.Errorf("small offer: %v", err)
			}
		})
	}
	all.Wait()
	tasks, err := s.List(t.Context(), store.ListQuery{Limit: 100})
	if err != nil || len(tasks) != 21 {
		t.Errorf("got %d tasks, %v; want 21", len(tasks), err)
	}
	pages(t, s, 1<<30)
	if _, err := s.Offer(t.Context(), big("after")); err != nil {
		t.Errorf("offer when there is room again: %v", err)
	}
}

func TestBatchGoesAloneAfterAFailure(t *testing.T) {
	s := openTemp(t)
	broken := errors.New("broken")
	var batch []*op
	for i := range 5 {
		batch = append(batch, &op{ctx: t.Context(), done: make(chan struct{}), run: func(c *conn, now time.Time) error {
			if err := c.AddMail(store.Mail{Worker: fmt.Sprint("w", i), TaskID: "t", Kind: store.MailCancel}); err != nil || i != 2 {
				return err
			}
			return broken
		}})
	}
	held := hold(t, s)
	for _, o := range batch {
		s.writer.enqueue(o)
	}
	close(held)
	for i, o := range batch {
		<-o.done
		if i == 2 && o.err != broken || i != 2 && o.err != nil {
			t.Errorf("operation %d: %v", i, o.err)
		}
		mail, err := s.Mail(t.Context(), fmt.Sprint("w", i), 0)
		if want := map[bool]int{true: 0, false: 1}[i == 2]; err != nil || len(mail) != want {
			t.Errorf("operation %d left %d rows, want %d (%v)", i, len(mail), want, err)
		}
	}
}

// hold keeps the writer busy until the channel is closed.
func hold(t *testing.T, s *Store) chan struct{} {
	t.Helper()
	held, begun := make(chan struct{}), make(chan struct{})
	s.writer.enqueue(&op{ctx: t.Context(), plain: true, done: make(chan struct{}), run: func(*conn, time.Time) error {
		close(begun)
		<-held
		return nil
	}})
	<-begun
	return held
}

func TestQueuedOperationEndsWithItsContext(t *testing.T) {
	s := openTemp(t)
	held := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := s.Offer(ctx, offerReq("late"))
		answer <- err
	}()
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("Offer: %v", err)
	}
	close(held)
	mustOffer(t, s, "next")
	if _, err := s.Get(t.Context(), "late"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
}

func TestWritersOfTwoProcessesWaitForEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	stores := []*Store{openAt(t, path, nil), openAt(t, path, nil)}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if _, err := stores[i%2].Offer(t.Context(), offerReq(fmt.Sprint("t", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	tasks, err := stores[0].List(t.Context(), store.ListQuery{Limit: 1000})
	if err != nil || len(tasks) != 200 {
		t.Errorf("got %d tasks, %v", len(tasks), err)
	}
}

// childFile is set in the process that TestKilledProcessLosesNothingAcknowledged starts and kills.
const childFile = "PERDURE_TEST_SQLITE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		fmt.Fprintln(os.Stderr, offerForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// offerForEver offers tasks from many goroutines and prints the ID of each that was acknowledged.
func offerForEver(path string) error {
	s, err := Open(context.Background(), path, nil)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range 16 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("g%d-%d", g, i)
				if _, err := s.Offer(context.Background(), offerReq(id)); err != nil {
					failed <- err
					return
				}
				fmt.Println(id)
			}
		}()
	}
	return <-failed
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for round := range 3 {
		ids := killAfter(t, fmt.Sprintf("%s-%d", path, round), 500+round*300)
		s := openAt(t, fmt.Sprintf("%s-%d", path, round), nil)
		for _, id := range ids {
			if _, err := s.Get(t.Context(), id); err != nil {
				t.Fatalf("%s was acknowledged: %v", id, err)
			}
		}
	}
}

// killAfter runs a child until it has acknowledged n tasks, kills it, and returns all it acknowledged.
func killAfter(t *testing.T, path string, n int) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFile+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if ids = append(ids, strings.TrimSpace(lines.Text())); len(ids) == n {
			child.Process.Kill()
		}
	}
	child.Wait()
	if len(ids) < n {
		t.Fatalf("the child acknowledged %d tasks before it ended", len(ids))
	}
	return ids
}
