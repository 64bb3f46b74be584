package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/perdure/perdure/internal/payload"
	"github.com/perdure/perdure/store"
)

// Codec encodes payloads before they are stored. Its methods are called concurrently, and may panic.
type Codec interface {
	// Encode returns what is stored for a payload. The label says where it belongs; Decode gets the same.
	Encode(label string, plain []byte) ([]byte, error)
	Decode(label string, stored []byte) ([]byte, error)
	// Digests identifies the canonical JSON of an input under every key held, the current one first.
	Digests(canonical []byte) []store.Digest
}

// place says where a payload belongs: its kind, its task, and for metadata its key.
type place struct{ kind, task, key string }

// Kinds of payloads.
const (
	ofInput    = "input"
	ofOutput   = "output"
	ofMetadata = "metadata"
	ofEvent    = "event"
)

// label is the place for the codec. No task ID has a slash.
func (p place) label() string {
	if p.key == "" {
		return p.kind + ":" + p.task
	}
	return p.kind + ":" + p.task + "/" + p.key
}

func (e *Engine) encode(at place, plain []byte) (out []byte, err error) {
	if e.cfg.Codec == nil || plain == nil {
		return plain, nil
	}
	err = Guard(func() (err error) {
		out, err = e.cfg.Codec.Encode(at.label(), plain)
		return err
	})
	return out, err
}

func (e *Engine) decode(at place, stored []byte) (out []byte, err error) {
	if e.cfg.Codec == nil || stored == nil {
		return stored, nil
	}
	err = Guard(func() (err error) {
		out, err = e.cfg.Codec.Decode(at.label(), stored)
		return err
	})
	return out, err
}

func (e *Engine) digests(canonical []byte) (all []store.Digest, err error) {
	if e.cfg.Codec == nil {
		return []store.Digest{digest(canonical)}, nil
	}
	err = Guard(func() error {
		all = e.cfg.Codec.Digests(canonical)
		return nil
	})
	if err == nil {
		err = checkDigests(all)
	}
	return all, err
}

// digest identifies canonical JSON without a key.
func digest(canonical []byte) store.Digest {
	sum := sha256.Sum256(canonical)
	return store.Digest{Sum: base64.RawStdEncoding.EncodeToString(sum[:])}
}

// checkDigests refuses what would not recognise the input again, or what some stores do not keep as it is.
func checkDigests(all []store.Digest) error {
	if len(all) == 0 {
		return errors.New("the codec returns no digest of an input")
	}
	for _, d := range all {
		if d.Sum == "" || !store.ValidText(d.Sum) || !store.ValidText(d.Key) {
			return fmt.Errorf("the codec's digest of an input with key %q is empty or no text", d.Key)
		}
	}
	return nil
}

// sealInput digests and encodes the input of an offer.
func (e *Engine) sealInput(req *store.OfferRequest) error {
	canonical, err := payload.Canonical(req.Input)
	if err != nil {
		return fmt.Errorf("input %w", err)
	}
	if req.Digests, err = e.digests(canonical); err != nil {
		return err
	}
	req.Input, err = e.encode(place{ofInput, req.TaskID, ""}, req.Input)
	return err
}
