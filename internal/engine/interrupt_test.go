package engine

import "testing"

// News of a task may overtake one another: an answer is late, mail is read again.
func TestOlderNewsOfAQueueAreIgnored(t *testing.T) {
	var q queue
	q.note(2, 5)
	q.note(1, 4)
	if q.inputs != 2 {
		t.Errorf("G6: got %d inputs after older news, want 2", q.inputs)
	}
	q.note(0, 6)
	if q.inputs != 0 {
		t.Errorf("G6: got %d inputs after newer news, want none", q.inputs)
	}
}
