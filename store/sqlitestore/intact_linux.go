package sqlitestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
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

// written is an extent, with the log as it was when that was found to be in it.
type written struct {
	extent
	log stat
}

// imprint is how the database was found to be. It is that until more of the log is moved to it.
type imprint struct {
	salts [8]byte
	moved int64
	is    stat
	head  [bytesOfHead]byte
}

// harm is what has been done to a file; suffix is that of its name.
type harm struct{ suffix, what string }

// errUnsettled says that SQLite is about to say something else.
var errUnsettled = errors.New("unsettled")

// intact compares the files with what SQLite says of them; database and log are as they have just been. What it finds is
// so only if SQLite says the same afterwards. While it never does, others commit: then it is an error that nobody can tell,
// unless nothing was found. Any goroutine may call it.
func (a *anchor) intact(database, log stat) (*harm, error) {
	if a == nil || a.shared == nil {
		return nil, nil
	}
	var err error
	for range 10 {
		var found *harm
		found, err = a.compare(database, log)
		switch {
		case errors.Is(err, os.ErrClosed): // with the last store
			return nil, nil
		case err == nil || !errors.Is(err, errUnsettled):
			return found, err
		}
	}
	if err == errUnsettled { // nothing was found
		return nil, nil
	}
	return nil, err
}

func (a *anchor) compare(database, log stat) (*harm, error) {
	e, err := a.extent()
	if err != nil {
		return nil, err
	}
	found, err := a.compareLog(e, log)
	var print *imprint
	if found == nil && err == nil {
		found, print, err = a.compareDatabase(e, database)
	}
	if err != nil {
		return nil, err
	}
	if found != nil || print != nil {
		again, err := a.extent()
		switch {
		case err == nil && again == e:
		case found != nil:
			return nil, fmt.Errorf("%w, while %s", errUnsettled, found.what)
		default:
			return nil, errUnsettled
		}
	}
	if print != nil {
		a.print.Store(print)
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
func (a *anchor) compareLog(e extent, log stat) (*harm, error) {
	last := a.last.Load()
	if e.frames == 0 || last != nil && *last == (written{e, log}) {
		return nil, nil
	}
	var head [bytesOfLogHead]byte
	if err := readAll(a.log, head[:], 0); err != nil {
		return nil, err
	}
	if !bytes.Equal(head[16:24], e.salts[:]) {
		return &harm{suffixLog, "its head is not the one that was written"}, nil
	}
	if last != nil && last.salts == e.salts && last.frames < e.frames {
		if found, err := a.compareFrame(last.extent, log); found != nil || err != nil {
			return found, err
		}
	}
	found, err := a.compareFrame(e, log)
	if found == nil && err == nil {
		a.last.Store(&written{e, log})
	}
	return found, err
}

// compareFrame looks at what is before the page of the last frame of an extent, and whether the log ends within that.
func (a *anchor) compareFrame(e extent, log stat) (*harm, error) {
	end := bytesOfLogHead + e.frames*(bytesOfFrameHead+e.page)
	var head [bytesOfFrameHead]byte
	if err := readAll(a.log, head[:], end-bytesOfFrameHead-e.page); err != nil {
		return nil, err
	}
	if !bytes.Equal(head[8:16], e.salts[:]) || !bytes.Equal(head[16:], e.sum[:]) {
		return &harm{suffixLog, "what was committed is not in it"}, nil
	}
	if log.size >= end {
		return nil, nil
	}
	if _, err := a.log.ReadAt(head[:1], end-1); err == io.EOF { // it has not only grown meanwhile
		return &harm{suffixLog, "it ends before what was committed"}, nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
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
func (a *anchor) compareDatabase(e extent, is stat) (*harm, *imprint, error) {
	print := a.print.Load()
	same := print != nil && print.salts == e.salts && print.moved == e.moved
	if same && print.is == is {
		return nil, nil, nil
	}
	info, err := a.db.Stat() // what is known of it may be of before
	if err != nil {
		return nil, nil, err
	}
	is.size, is.at = info.Size(), info.ModTime().UnixNano()
	switch {
	case is.size < e.page, e.moved == e.frames && is.size < e.pages*e.page:
		return &harm{"", "it ends before what is in it"}, nil, nil
	case e.moved != e.attempted || e.moved > e.frames || e.salts == [8]byte{}:
		return nil, nil, nil // it may be written to
	case same && print.is.size != is.size:
		return &harm{"", "its size is another one"}, nil, nil
	}
	now := &imprint{salts: e.salts, moved: e.moved, is: is}
	if err := readAll(a.db, now.head[:], 0); err != nil {
		return nil, nil, err
	}
	if same && print.head != now.head {
		return &harm{"", "it was written over"}, nil, nil
	}
	return nil, now, nil
}
