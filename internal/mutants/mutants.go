// Command mutants puts faults into the code by hand, one at a time, and sees which tests find them: a fault that no test
// finds is a missing test. The faults are in list/*.txt. Some are repairs taken out again that the simulation must find
// without any other test.
//
// The tree is not changed: the faults are laid over it. Results are kept in bin/mutants, so that a run that was stopped
// goes on.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

func main() {
	only := flag.String("run", "", "try only mutations whose names match this `regexp`")
	list := flag.Bool("list", false, "list the mutations, and try none")
	parallel := flag.Int("j", runtime.NumCPU(), "try so many at a time")
	flag.Parse()
	if err := run(*only, *list, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, list bool, parallel int) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	everything, err := all()
	if err != nil {
		return err
	}
	var ms []*mutation
	for _, m := range everything {
		if match.MatchString(m.name) {
			ms = append(ms, m)
		}
	}
	if list {
		for _, m := range ms {
			fmt.Printf("%s: %s\n", strings.Join(m.files(), ", "), m.name)
		}
		return nil
	}
	kept, err := openResults(root)
	if err != nil {
		return err
	}
	r := &runner{kept: kept}
	r.all(ms, parallel)
	return r.report()
}

// runner tries mutations, and counts.
type runner struct {
	kept *results

	mu                                     sync.Mutex
	tried, killed, bySim, explained, wrong int
}

// all tries the mutations, some at a time.
func (r *runner) all(ms []*mutation, parallel int) {
	next := make(chan *mutation)
	var workers sync.WaitGroup
	for range max(parallel, 1) {
		workers.Go(func() {
			for m := range next {
				killer, err := m.try(r.kept)
				r.count(m, killer, err)
			}
		})
	}
	for _, m := range ms {
		next <- m
	}
	close(next)
	workers.Wait()
}

// count counts a mutation, and tells what has become of it.
func (r *runner) count(m *mutation, killer string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	switch {
	case err != nil:
		r.wrong++
		fmt.Printf("ERROR     %s: %v\n", m.name, err)
	case killer != "":
		r.killed++
		if m.sim {
			r.bySim++
		}
		fmt.Printf("killed    %s: %s\n", m.name, killer)
	case m.survives != "":
		r.explained++
		fmt.Printf("survives  %s: %s\n", m.name, m.survives)
	default:
		r.wrong++
		fmt.Printf("SURVIVED  %s\n", m.name)
	}
}

// report prints the figures. It fails if a mutation has survived that is not known to, or could not be tried.
func (r *runner) report() error {
	fmt.Printf("proof: mutants: %d mutations, %d killed, %d by the simulation alone, %d survive with an explanation\n",
		r.tried, r.killed, r.bySim, r.explained)
	if r.wrong > 0 {
		return errors.New(fmt.Sprint(r.wrong, " mutations have survived, or could not be tried"))
	}
	return nil
}
