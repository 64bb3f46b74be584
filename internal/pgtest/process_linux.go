package pgtest

import "syscall"

// Signals that stop a process, and let it go on.
const (
	stopSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)

// runAs are the attributes of a program that runs as somebody; nil: as this one.
func runAs(who *account) *syscall.SysProcAttr {
	if who == nil {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid}}
}

// dieWithUs makes a program stop when the thread that starts it ends, as with this process.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

func kill(pid int, signal syscall.Signal) error { return syscall.Kill(pid, signal) }
