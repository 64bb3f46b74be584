package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ValidText reports whether every store can keep a text: it is UTF-8, without U+0000. What looks for another one does
// not find it.
func ValidText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// namedText is a text of a request, and what it is.
type namedText struct{ name, text string }

// checkTexts refuses texts that not every store can keep.
func checkTexts(texts ...namedText) error {
	for _, t := range texts {
		if !ValidText(t.text) {
			return &ContentError{Err: fmt.Errorf("%s is not UTF-8 or contains the character U+0000", t.name)}
		}
	}
	return nil
}

// checkTags refuses labels that not every store can keep.
func checkTags(tags map[string]string) error {
	for k, v := range tags {
		if err := checkTexts(namedText{"a tag's key", k}, namedText{"a tag", v}); err != nil {
			return err
		}
	}
	return nil
}

func checkSource(s Source) error {
	return checkTexts(namedText{"program", s.Program}, namedText{"version", s.Version}, namedText{"library", s.Library}, namedText{"host", s.Host})
}

func checkChanges(changes []Change) error {
	for _, c := range changes {
		if err := checkTexts(namedText{"a metadata key", c.Key}); err != nil {
			return err
		}
	}
	return nil
}

func checkTaskError(e *TaskError) error {
	if e == nil {
		return nil
	}
	return checkTexts(namedText{"an error's type", e.Type}, namedText{"an error's message", e.Message}, namedText{"a stack", e.Stack})
}

// firstOf returns the first error.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Valid reports, as a *ContentError, that a text of the request is one that not every store can keep.
func (r *OfferRequest) Valid() error {
	err := checkTexts(
		namedText{"task ID", r.TaskID}, namedText{"func", r.Func}, namedText{"input ID", r.InputID},
		namedText{"last input ID", r.IfLastInputID}, namedText{"delivery", string(r.Deliver)},
		namedText{"title", r.Title}, namedText{"description", r.Description}, namedText{"session", r.Session},
		namedText{"agent", r.Agent}, namedText{"worker", r.Worker})
	for _, d := range r.Digests {
		err = firstOf(err, checkTexts(namedText{"digest's key", d.Key}, namedText{"digest", d.Sum}))
	}
	return firstOf(err, checkTags(r.Tags), checkSource(r.Source))
}

// Valid is as that of OfferRequest.
func (r *ClaimRequest) Valid() error {
	err := checkTexts(namedText{"worker", r.Worker})
	for _, f := range r.Funcs {
		err = firstOf(err, checkTexts(namedText{"func", f.Name}))
	}
	for _, id := range r.Except {
		err = firstOf(err, checkTexts(namedText{"task ID", id}))
	}
	return err
}

// Valid is as that of OfferRequest.
func (r *PollRequest) Valid() error {
	err := checkTexts(namedText{"worker", r.Worker})
	for _, fn := range r.Funcs {
		err = firstOf(err, checkTexts(namedText{"func", fn}))
	}
	return err
}

// Valid is as that of OfferRequest.
func (r *HeartbeatRequest) Valid() error {
	err := checkTexts(namedText{"worker", r.Worker}, namedText{"worker", r.Replaces},
		namedText{"host", r.Info.Host}, namedText{"program", r.Info.Program}, namedText{"version", r.Info.Version})
	for _, f := range r.Funcs {
		err = firstOf(err, checkTexts(namedText{"func", f.Name}))
	}
	return err
}

// Valid is as that of OfferRequest.
func (r *CheckpointRequest) Valid() error {
	return firstOf(checkTexts(namedText{"worker", r.Lease.Worker}), checkChanges(r.Metadata))
}

// Valid is as that of OfferRequest.
func (r *SettleRequest) Valid() error {
	return firstOf(
		checkTexts(namedText{"worker", r.Lease.Worker}, namedText{"kind", string(r.Kind)}, namedText{"outcome", string(r.Outcome)},
			namedText{"status", string(r.Then)}, namedText{"release", string(r.Release)}, namedText{"reason", r.Reason}, namedText{"detail", r.Detail}),
		checkTaskError(r.Error), checkChanges(r.Metadata))
}

// Valid is as that of OfferRequest; a task or input with such an ID is ErrNotFound.
func (r *SignalRequest) Valid() error {
	if !ValidText(r.TaskID) || !ValidText(r.InputID) {
		return ErrNotFound
	}
	return checkTexts(namedText{"kind", string(r.Kind)}, namedText{"reason", r.Reason}, namedText{"worker", r.Worker}, namedText{"request ID", r.RequestID})
}

// Valid is as that of OfferRequest; a task with such an ID is ErrNotFound.
func (r *DeleteRequest) Valid() error {
	if !ValidText(r.TaskID) {
		return ErrNotFound
	}
	return checkTexts(namedText{"worker", r.Worker}, namedText{"request ID", r.RequestID})
}

// Valid is as that of OfferRequest.
func (r *ImportRequest) Valid() error {
	err := checkTexts(namedText{"task ID", r.TaskID})
	for _, t := range []*Task{r.Task, r.Last} {
		if t != nil {
			err = firstOf(err, t.valid())
		}
	}
	for _, t := range r.Turns {
		err = firstOf(err, t.valid())
	}
	for _, e := range r.Events {
		err = firstOf(err, checkTexts(namedText{"kind", string(e.Kind)}, namedText{"status", string(e.Status)}, namedText{"reason", e.Reason}))
	}
	return err
}

func (t *Task) valid() error {
	u := &t.Turn
	err := checkTexts(
		namedText{"task ID", t.ID}, namedText{"func", t.Func}, namedText{"status", string(t.Status)}, namedText{"reason", t.Reason},
		namedText{"title", t.Title}, namedText{"description", t.Description}, namedText{"session", t.Session}, namedText{"agent", t.Agent},
		namedText{"input ID", u.InputID}, namedText{"entry", string(u.Entry)}, namedText{"reason", u.CancelReason},
		namedText{"input ID", t.LastInputID}, namedText{"worker", t.Worker}, namedText{"wait", string(t.Wait)})
	for key := range t.Metadata {
		err = firstOf(err, checkTexts(namedText{"a metadata key", key}))
	}
	return firstOf(err, checkTags(t.Tags), checkSource(t.Source), checkTaskError(u.Error))
}

func (t *Turn) valid() error {
	return firstOf(checkTexts(
		namedText{"task ID", t.TaskID}, namedText{"input ID", t.InputID}, namedText{"status", string(t.Status)},
		namedText{"delivery", string(t.Deliver)}, namedText{"digest's key", t.Digest.Key}, namedText{"digest", t.Digest.Sum},
		namedText{"reason", t.Reason}, namedText{"detail", t.Detail}, namedText{"entry", string(t.Entry)},
		namedText{"status", string(t.TaskStatus)}), checkTaskError(t.Error))
}
