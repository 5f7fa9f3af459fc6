//go:build lab

package vmlab

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	whole   = flag.Bool("whole", false, "boot the whole matrix of guests, not its quick part")
	scratch string // holds what is built
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "berth-vmlab-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	status := m.Run()
	if testing.Verbose() {
		table.print()
	}
	return status
}

// line is what the table says of a guest.
type line struct {
	order               int
	name, release       string
	up, whole           float64 // seconds
	asked, kernel, here shape
	remark              string
}

func (l line) String() string {
	return fmt.Sprintf("| %s | %s | %.0f | %.0f | %s | %s | %s | %s |", l.name, l.release, l.up, l.whole, l.asked, l.kernel, l.here, l.remark)
}

// table collects the guests that were booted.
var table lines

type lines struct {
	sync.Mutex
	all []line
}

func (l *lines) add(one line) {
	l.Lock()
	defer l.Unlock()
	l.all = append(l.all, one)
}

// print shows the guests in the matrix's order.
func (l *lines) print() {
	if len(l.all) == 0 {
		return
	}
	slices.SortFunc(l.all, func(a, b line) int { return a.order - b.order })
	fmt.Printf("Levels: %s. A dash is a level that was not asked for, or that the kernel does not know.\n\n", strings.Join(levels[:], "/"))
	fmt.Println("| guest | kernel release | up, s | off, s | asked | kernel | berth | |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, one := range l.all {
		fmt.Println(one)
	}
}
