package main

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// flagLimit is what a command may take with a flag that means nothing: its own patience with a server, and 2 s. A test
// run only tells what hangs from what ends: the machine may be busy.
func flagLimit() time.Duration {
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" {
		return patience + 2*time.Second
	}
	return deadline
}

// bait are values that a flag may not have, or that are hard to bear.
func bait() []string {
	return []string{
		"", " ", "-", "--", "0", "-1", "1", "1e999", "NaN", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"-5s", "1ns", "2562047h47m16.854775807s", "true", "null", "{}", `{"attempts":1e99}`, "[[[[", "@", "@.", "@/dev/zero", "/dev/zero", ".",
		"../..", "a=b", "=", "a\nb", "%s%n%!d", "\x1b", "\x1b[31m", "\xff\xfe", "\xc3(", evil[:1], "\u009b", "\u202eabc", "\u200b", strings.Repeat("x", 100_000),
		"http://[::1", "http://127.0.0.1:1", "postgres://", "file:x?y", "host=x", "127.0.0.1:99999",
	}
}

// commandFlag is a flag of a command.
type commandFlag struct{ command, flag string }

// commandFlags walks the commands.
func commandFlags() (all []commandFlag) {
	a, _ := onScreen()
	root := a.rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		all = append(all, commandFlag{c.Name(), ""}) // the value is an argument
		if c.Name() != benchChild {
			c.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, commandFlag{c.Name(), f.Name}) })
		}
	}
	return all
}

// quickly are the flags with which a command does little.
func quickly(command string) []string {
	switch command {
	case "serve":
		return []string{"--listen=127.0.0.1:0", "--wait-for-db=0"}
	case "bench":
		return []string{"cycles", "--duration=1ms", "--rounds=1", "--callers=1"}
	case "migrate":
		return []string{"--print"}
	}
	return nil
}

// FuzzFlags gives each flag of each command each value: the exit code is one of those that are documented, the server
// does not fail, nothing that acts reaches the terminal, and all is over soon. In a test run each flag gets a few of
// the values, in a fuzz run all that there are, and more.
func FuzzFlags(f *testing.F) {
	h := inProcess(f)
	var failures atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(seen, r)
		if seen.status >= http.StatusInternalServerError {
			failures.Add(1)
		}
	}))
	f.Cleanup(server.Close)
	dir := f.TempDir()
	all, values := commandFlags(), bait()
	sample := 5
	if testing.Short() {
		sample = 2
	}
	for i := range all {
		for n := range sample {
			f.Add(uint(i), values[(i*sample+n*11)%len(values)])
		}
	}
	f.Fuzz(func(t *testing.T, i uint, value string) {
		of := all[i%uint(len(all))]
		if strings.Contains(value, "\x00") || dangerous(of, value) {
			return
		}
		t.Chdir(dir)
		args := append([]string{of.command}, quickly(of.command)...)
		a, read := onScreen("PERDURE_URL="+server.URL, "PERDURE_DB=x.db")
		if c, _, err := a.rootCommand().Find(args[:1]); err == nil {
			args = append(args, arguments(c)...)
		}
		if of.flag == "" {
			args = append(args, value)
		} else {
			args = append(args, "--"+of.flag+"="+value)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun, before := time.Now(), failures.Load()
		code := a.run(ctx, args)
		if took := time.Since(begun); took > flagLimit() {
			t.Errorf("%.300q took %v", args, took)
		}
		if code < exitOK || code > exitConflict {
			t.Errorf("%.300q: exit code %d", args, code)
		}
		if failures.Load() > before {
			t.Errorf("%.300q: the server failed: %.300q", args, read())
		}
		noneActs(t, strings.Join(args, " "), read())
	})
}

// dangerous reports whether a fuzzer must not try it on this machine: it may write outside of its folder.
func dangerous(of commandFlag, value string) bool {
	return (of.flag == "db" || of.flag == "dir") && strings.ContainsAny(value, `/\`) && !strings.Contains(value, "://") && value != "/dev/zero"
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
