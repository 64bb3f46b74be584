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
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/bubble"
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
	if err != nil || len(tasks.Tasks) != 21 {
		t.Errorf("got %v, %v; want 21 tasks", tasks, err)
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
		mail, err := mailOf(t, s, fmt.Sprint("w", i))
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

func TestOperationUnderWayIsAnsweredWhateverBecomesOfItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := openTemp(t)
		ctx, cancel := context.WithCancel(t.Context())
		held, answer := make(chan struct{}), make(chan error, 1)
		go func() {
			answer <- s.writer.do(&op{ctx: ctx, run: func(c *conn, _ time.Time) error {
				<-held
				return c.AddMail(store.Mail{Worker: "w", TaskID: "t", Kind: store.MailCancel})
			}})
		}()
		synctest.Wait() // it has begun
		cancel()
		synctest.Wait()
		select {
		case err := <-answer:
			t.Errorf("it was answered, with %v, before it had ended", err)
			answer <- err
		default:
		}
		close(held)
		if err := <-answer; err != nil {
			t.Errorf("the answer is %v", err)
		}
		if mail, err := mailOf(t, s, "w"); err != nil || len(mail) != 1 {
			t.Errorf("it left %d rows, %v", len(mail), err)
		}
	})
}

func TestOperationThatIsLeftOutHoldsNoPayload(t *testing.T) {
	s := openTemp(t)
	held := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	o := &op{ctx: ctx, run: func(*conn, time.Time) error { return nil }}
	cancel()
	o.done = make(chan struct{})
	s.writer.enqueue(o)
	if err := s.writer.wait(o); !errors.Is(err, context.Canceled) {
		t.Errorf("the answer is %v", err)
	}
	if o.run != nil {
		t.Error("what it was to do is still in the queue")
	}
	close(held)
}

func TestBatchesAreBoundedInBytesAndInNumber(t *testing.T) {
	w := newWriter(nil, nil, nil)
	sizes := []int{1, batchBytes - 1, 1, batchBytes + 1, 5, batchBytes / 2, batchBytes / 2, 0, 1, 3 * batchBytes, 3 * batchBytes}
	for range 3 * batchOps {
		sizes = append(sizes, 10)
	}
	for range 20 {
		sizes = append(sizes, 1<<20)
	}
	for _, size := range sizes {
		w.enqueue(&op{size: size})
	}
	taken := 0
	for len(w.queue) > 0 {
		batch, _ := w.fill(nil)
		bytes := 0
		for _, o := range batch {
			bytes += o.size
		}
		if len(batch) == 0 || len(batch) > batchOps || len(batch) > 1 && bytes > batchBytes {
			t.Fatalf("a batch has %d operations of %d bytes", len(batch), bytes)
		}
		taken += len(batch)
	}
	if taken != len(sizes) {
		t.Errorf("%d operations were taken, of %d", taken, len(sizes))
	}
}

func TestEveryPayloadCountsInABatch(t *testing.T) {
	const mib = 1 << 20
	blob := make([]byte, mib)
	text := string(blob)
	change := []store.Change{{Key: "k", Value: blob}}
	for what, size := range map[string]int{
		"input":                sizeOfOffer(&store.OfferRequest{Input: blob}),
		"tags":                 sizeOfOffer(&store.OfferRequest{Tags: map[string]string{"k": text}}),
		"description":          sizeOfOffer(&store.OfferRequest{Description: text}),
		"events":               sizeOfCheckpoint(&store.CheckpointRequest{Events: [][]byte{blob}}),
		"metadata":             sizeOfCheckpoint(&store.CheckpointRequest{Metadata: change}),
		"output":               sizeOfSettle(&store.SettleRequest{Output: blob}),
		"events of a settle":   sizeOfSettle(&store.SettleRequest{Events: [][]byte{blob}}),
		"metadata of a settle": sizeOfSettle(&store.SettleRequest{Metadata: change}),
		"stack":                sizeOfSettle(&store.SettleRequest{Error: &store.TaskError{Stack: text}}),
		"detail":               sizeOfSettle(&store.SettleRequest{Detail: text}),
		"imported metadata":    sizeOfImport(&store.ImportRequest{Task: &store.Task{Metadata: map[string][]byte{"k": blob}}}),
		"imported input":       sizeOfImport(&store.ImportRequest{Turns: []*store.Turn{{Input: blob}}}),
		"imported output":      sizeOfImport(&store.ImportRequest{Turns: []*store.Turn{{Output: blob}}}),
		"imported error":       sizeOfImport(&store.ImportRequest{Turns: []*store.Turn{{Error: &store.TaskError{Message: text}}}}),
		"imported event":       sizeOfImport(&store.ImportRequest{Events: []store.Event{{Data: blob}}}),
	} {
		if size < mib || size > mib+100 {
			t.Errorf("%s of %d bytes counts as %d", what, mib, size)
		}
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
	if err != nil || len(tasks.Tasks) != 200 {
		t.Errorf("got %v, %v; want 200 tasks", tasks, err)
	}
}

// childFile is set in the process that TestKilledProcessLosesNothingAcknowledged starts and kills.
const childFile = "PERDURE_TEST_SQLITE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		fmt.Fprintln(os.Stderr, offerForEver(path))
		os.Exit(1)
	}
	if path := os.Getenv(visitedFile); path != "" {
		if err := countTasks(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
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

// mailOf returns all mail of a worker.
func mailOf(t *testing.T, s store.Store, worker string) ([]store.Mail, error) {
	t.Helper()
	p, err := s.Poll(t.Context(), &store.PollRequest{Worker: worker})
	if err != nil {
		return nil, err
	}
	return p.Mail, nil
}
