package perdure

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/perdure/perdure/store"
)

// Codec encodes payloads (inputs, outputs, metadata values, event data) before they are stored, and
// decodes them: encryption, compression. Identifiers, labels, reasons and error messages are stored as
// they are. Its methods are called concurrently.
type Codec interface {
	// Encode returns what is stored for a payload. The label says where the payload belongs (its kind and
	// task); Decode is given the same, so that a codec can refuse a payload that was moved.
	Encode(label string, plain []byte) ([]byte, error)
	Decode(label string, stored []byte) ([]byte, error)

	// Digests identifies the canonical JSON of an input, for rule S2, under each key that is held, the
	// current one first. A codec without keys returns one digest with an empty key ID.
	Digests(canonical []byte) []Digest
}

// Digest identifies an input under a key.
type Digest struct {
	KeyID string
	Sum   string
}

// codec adapts a Codec to the engine.
type codec struct{ Codec }

func (c codec) Digests(canonical []byte) []store.Digest {
	var digests []store.Digest
	for _, d := range c.Codec.Digests(canonical) {
		digests = append(digests, store.Digest{Key: d.KeyID, Sum: d.Sum})
	}
	return digests
}

// AESGCM is a Codec that encrypts with AES-GCM and authenticates where a payload belongs. Keys have IDs,
// so that they can be rotated: new payloads are written with the current key, old ones read with the key
// they were written with.
type AESGCM struct {
	current string
	keys    map[string]aesKey
	ids     []string // the current one first
}

type aesKey struct {
	aead cipher.AEAD
	mac  []byte // key of the input digests
}

// NewAESGCM returns a codec that writes with the current one of the given keys. A key has 16, 24 or 32
// bytes, and an ID of 1 to 255 bytes.
func NewAESGCM(current string, keys map[string][]byte) (*AESGCM, error) {
	c := &AESGCM{current: current, keys: map[string]aesKey{}}
	if _, ok := keys[current]; !ok {
		return nil, invalid("current key %q is not among the keys", current)
	}
	for id, key := range keys {
		if id == "" || len(id) > 255 {
			return nil, invalid("a key ID has 1 to 255 bytes, not %d", len(id))
		}
		k, err := newAESKey(key)
		if err != nil {
			return nil, invalid("key %q: %v", id, err)
		}
		c.keys[id] = k
		if id != current {
			c.ids = append(c.ids, id)
		}
	}
	slices.Sort(c.ids)
	c.ids = slices.Insert(c.ids, 0, current)
	return c, nil
}

func newAESKey(key []byte) (aesKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return aesKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return aesKey{}, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("perdure input digest"))
	return aesKey{aead: aead, mac: mac.Sum(nil)}, nil
}

// aesVersion begins every encrypted payload. No JSON begins with it, so that a payload that was stored
// without a codec is told from one whose key is missing.
const aesVersion = 1

// Encode writes the version, the length of the key ID, the key ID, the nonce and the ciphertext.
func (c *AESGCM) Encode(label string, plain []byte) ([]byte, error) {
	out := make([]byte, 0, 2+len(c.current)+c.keys[c.current].aead.Overhead()+len(plain))
	out = append(out, aesVersion, byte(len(c.current)))
	out = append(out, c.current...)
	return c.keys[c.current].aead.Seal(out, nil, plain, []byte(label)), nil
}

// Decode reads what Encode wrote. It fails when the key is not held, or when the payload was changed or
// moved to another place.
func (c *AESGCM) Decode(label string, stored []byte) ([]byte, error) {
	if len(stored) < 2 || stored[0] != aesVersion || len(stored) < 2+int(stored[1]) {
		return nil, errors.New("payload is not encrypted")
	}
	stored = stored[1:]
	id, sealed := string(stored[1:1+stored[0]]), stored[1+stored[0]:]
	key, ok := c.keys[id]
	if !ok {
		return nil, fmt.Errorf("payload is encrypted with key %s, which is not held", quote(id))
	}
	return key.aead.Open(nil, nil, sealed, []byte(label))
}

// Digests returns an HMAC of the input for each key.
func (c *AESGCM) Digests(canonical []byte) []Digest {
	digests := make([]Digest, 0, len(c.ids))
	for _, id := range c.ids {
		mac := hmac.New(sha256.New, c.keys[id].mac)
		mac.Write(canonical)
		digests = append(digests, Digest{KeyID: id, Sum: base64.RawStdEncoding.EncodeToString(mac.Sum(nil))})
	}
	return digests
}
