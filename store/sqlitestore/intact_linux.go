package sqlitestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// What another program does to the content of the files is found by comparing them with what SQLite says of them in the
// shared memory (https://sqlite.org/walformat.html). There, a log that was cut is one whose frames are all valid.

// Bytes of the parts of the files, and where they are.
const (
	bytesOfLogHead   = 32
	bytesOfFrameHead = 24
	bytesOfIndexHead = 48 // there are two copies
	bytesOfHead      = 100
	atBackfill       = 2 * bytesOfIndexHead
	atAttempted      = atBackfill + 32
	bytesOfIndex     = atAttempted + 4
)

// extent is what SQLite says of the log and the database at one moment.
type extent struct {
	page      int64   // bytes of a page
	pages     int64   // of the database, with what is in the log
	frames    int64   // of the log, that count
	salts     [8]byte // of the log; they change when it begins anew
	sum       [8]byte // of the last frame
	moved     int64   // frames that are in the database as well
	attempted int64   // frames that may be
}

// imprint is how the database was found to be. It is that until more of the log is moved to it.
type imprint struct {
	salts [8]byte
	moved int64
	size  int64
	at    time.Time
	head  [bytesOfHead]byte
}

// errUnsettled says that SQLite is about to say something else.
var errUnsettled = errors.New("unsettled")

// harm is what has been done to a file; suffix is that of its name.
type harm struct{ suffix, what string }

// intact compares the files with what SQLite says of them. What it finds is so only if SQLite says the same afterwards;
// while it never does, others commit, and this is called again after that. Any goroutine may call it.
func (a *anchor) intact() (*harm, error) {
	if a == nil || a.shared == nil {
		return nil, nil
	}
	for range 3 {
		found, err := a.compare()
		if err != errUnsettled {
			return found, ignoreClosed(err)
		}
	}
	return nil, nil
}

// ignoreClosed drops the error of a store that is being closed.
func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func (a *anchor) compare() (*harm, error) {
	e, err := a.extent()
	if err != nil {
		return nil, err
	}
	found, err := a.compareLog(e)
	var print *imprint
	if found == nil && err == nil {
		found, print, err = a.compareDatabase(e)
	}
	if err != nil {
		return nil, err
	}
	if found != nil || print != nil {
		if again, err := a.extent(); err != nil || again != e {
			return nil, errUnsettled
		}
	}
	if print != nil {
		a.print.Store(print)
	}
	if last := a.last.Load(); found == nil && (last == nil || *last != e) {
		a.last.Store(&e)
	}
	return found, nil
}

// extent reads what SQLite says. Whoever changes it writes one copy after the other.
func (a *anchor) extent() (extent, error) {
	var b [bytesOfIndex]byte
	if _, err := a.shared.ReadAt(b[:], 0); err == io.EOF {
		return extent{}, errUnsettled
	} else if err != nil {
		return extent{}, err
	}
	if b[12] == 0 || !bytes.Equal(b[:bytesOfIndexHead], b[bytesOfIndexHead:atBackfill]) {
		return extent{}, errUnsettled
	}
	number := func(at int) int64 { return int64(binary.NativeEndian.Uint32(b[at:])) }
	size := int64(binary.NativeEndian.Uint16(b[14:]))
	e := extent{
		page:   size&0xfe00 + size&1<<16, // 64 KiB is 1
		frames: number(16), pages: number(20), moved: number(atBackfill), attempted: number(atAttempted),
	}
	binary.BigEndian.PutUint32(e.sum[:], uint32(number(24)))
	binary.BigEndian.PutUint32(e.sum[4:], uint32(number(28)))
	copy(e.salts[:], b[32:])
	return e, nil
}

// compareLog looks at the head of the log, and at the frames that were its last one now and when it was looked at before:
// each has the sum of all before it. A log without frames that count may be anything.
func (a *anchor) compareLog(e extent) (*harm, error) {
	if e.frames == 0 {
		return nil, nil
	}
	var head [bytesOfLogHead]byte
	if err := readAll(a.log, head[:], 0); err != nil {
		return nil, err
	}
	if !bytes.Equal(head[16:24], e.salts[:]) {
		return &harm{suffixLog, "its head is not the one that was written"}, nil
	}
	if last := a.last.Load(); last != nil && last.salts == e.salts && last.frames < e.frames {
		if found, err := a.compareFrame(*last); found != nil || err != nil {
			return found, err
		}
	}
	return a.compareFrame(e)
}

// compareFrame looks at the last frame of an extent: at what is before its page, and at the page's last byte.
func (a *anchor) compareFrame(e extent) (*harm, error) {
	if e.frames == 0 {
		return nil, nil
	}
	at := bytesOfLogHead + (e.frames-1)*(bytesOfFrameHead+e.page)
	var head [bytesOfFrameHead]byte
	if err := readAll(a.log, head[:], at); err != nil {
		return nil, err
	}
	if !bytes.Equal(head[8:16], e.salts[:]) || !bytes.Equal(head[16:], e.sum[:]) {
		return &harm{suffixLog, "what was committed is not in it"}, nil
	}
	_, err := a.log.ReadAt(head[:1], at+bytesOfFrameHead+e.page-1)
	if err == io.EOF {
		return &harm{suffixLog, "it ends before what was committed"}, nil
	}
	return nil, err
}

// readAll reads what is there; what is not is 0.
func readAll(f *os.File, b []byte, at int64) error {
	if _, err := f.ReadAt(b, at); err != io.EOF {
		return err
	}
	return nil
}

// compareDatabase looks at the size of the database, and at its first bytes when it was written to although nothing was
// moved to it. It returns an imprint when there is a new one.
func (a *anchor) compareDatabase(e extent) (*harm, *imprint, error) {
	info, err := a.db.Stat()
	if err != nil {
		return nil, nil, err
	}
	size, print := info.Size(), a.print.Load()
	switch {
	case size < e.page, e.moved == e.frames && size < e.pages*e.page:
		return &harm{"", "it ends before what is in it"}, nil, nil
	case e.moved != e.attempted || e.moved > e.frames || e.salts == [8]byte{}:
		return nil, nil, nil // it may be written to
	}
	same := print != nil && print.salts == e.salts && print.moved == e.moved
	if same && print.size != size {
		return &harm{"", "its size is another one"}, nil, nil
	}
	if same && print.at.Equal(info.ModTime()) {
		return nil, nil, nil
	}
	now := &imprint{salts: e.salts, moved: e.moved, size: size, at: info.ModTime()}
	if err := readAll(a.db, now.head[:], 0); err != nil {
		return nil, nil, err
	}
	if same && print.head != now.head {
		return &harm{"", "it was written over"}, nil, nil
	}
	return nil, now, nil
}
