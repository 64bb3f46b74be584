package sqlitestore

import "syscall"

func statOf(st *syscall.Stat_t) stat {
	return stat{links: uint64(st.Nlink), size: st.Size, at: st.Mtim.Nano()}
}
