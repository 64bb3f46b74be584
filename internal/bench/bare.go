package bench

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"

	"github.com/google/uuid"

	"github.com/perdure/perdure/internal/stores"
)

// bare writes the rows of a cycle with nothing around it: no engine, no rules, no reads. It is what the
// machine can do with this schema, these settings and group commit.
type bare struct {
	ops     chan *bareOp
	writers sync.WaitGroup
	free    func() error // what the writers have worked with
}

// committer writes a batch in one transaction, and gives insertions their numbers.
type committer func(batch []*bareOp) error

type bareOp struct {
	id     string
	key    int64 // 0: insert; else update
	number int64 // set by an insert
	err    error
	done   chan struct{}
}

// bareDigest is what the digest of an input looks like.
const bareDigest = "0123456789abcdef0123456789abcdef0123456789a"

// bareWorker is what a worker's ID looks like.
const bareWorker = "0198c0de-0000-7000-8000-000000000000"

// openBare makes a place with the store's schema, and opens it with the store's settings.
func openBare(ctx context.Context, place string) (*bare, error) {
	input, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	open := openBareFile
	if stores.IsPostgres(place) {
		open = openBareDatabase
	}
	committers, free, err := open(ctx, place, input)
	if err != nil {
		return nil, err
	}
	b := &bare{ops: make(chan *bareOp, 4096), free: free}
	for _, commit := range committers {
		b.writers.Go(func() { b.write(commit) })
	}
	return b, nil
}

// cycle inserts a task with its turn, then updates both.
func (b *bare) cycle() error {
	insert := &bareOp{id: uuid.Must(uuid.NewV7()).String()}
	if err := b.do(insert); err != nil {
		return err
	}
	return b.do(&bareOp{key: insert.number})
}

func (b *bare) do(op *bareOp) error {
	op.done = make(chan struct{})
	b.ops <- op
	<-op.done
	return op.err
}

// write is a writer's goroutine: group commit as the store does it.
func (b *bare) write(commit committer) {
	for op := range b.ops {
		batch := []*bareOp{op}
		for more := true; more && len(batch) < 512; {
			select {
			case op, ok := <-b.ops:
				if more = ok; ok {
					batch = append(batch, op)
				}
			default:
				more = false
			}
		}
		err := commit(batch)
		for _, op := range batch {
			op.err = err
			close(op.done)
		}
		runtime.Gosched() // whom we have answered may have more for the next batch
	}
}

func (b *bare) close() error {
	close(b.ops)
	b.writers.Wait()
	return b.free()
}
