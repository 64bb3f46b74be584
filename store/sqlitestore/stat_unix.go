//go:build unix && !linux

package sqlitestore

import "syscall"

func statOf(st *syscall.Stat_t) stat { return stat{links: uint64(st.Nlink)} }
