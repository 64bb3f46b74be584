//go:build !linux

package pgtest

import (
	"errors"
	"syscall"
)

// Signals that nobody is sent here.
const (
	stopSignal = syscall.Signal(0)
	goOnSignal = syscall.Signal(0)
)

// runAs leaves a program to whoever runs this one: Postgres itself refuses who may do everything.
func runAs(*account) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// dieWithUs does nothing: a server whose tests were killed stays.
func dieWithUs(*syscall.SysProcAttr) {}

// kill is for processes that are found in /proc.
func kill(int, syscall.Signal) error { return errors.ErrUnsupported }
